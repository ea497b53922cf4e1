-- The Postgres source, as the product has it. Only the local stack and the tests run this file:
-- in production these relations exist already and are only ever read.

CREATE SCHEMA IF NOT EXISTS director;
CREATE SCHEMA IF NOT EXISTS historic;
CREATE SCHEMA IF NOT EXISTS app;

CREATE TABLE IF NOT EXISTS director.scorecard_templates (
    customer    text        NOT NULL,
    profile     text        NOT NULL,
    template_id uuid        NOT NULL,
    title       text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, profile, template_id)
);

-- The template type (1 = CONVERSATION, 2 = PROCESS) lives on the revision, not on the scorecard.
CREATE TABLE IF NOT EXISTS director.scorecard_template_revisions (
    customer             text        NOT NULL,
    profile              text        NOT NULL,
    template_id          uuid        NOT NULL,
    template_revision_id uuid        NOT NULL,
    template_type        smallint    NOT NULL,
    created_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, profile, template_id, template_revision_id)
);

CREATE TABLE IF NOT EXISTS director.scorecards (
    customer               text        NOT NULL,
    profile                text        NOT NULL,
    scorecard_id           uuid        NOT NULL,
    template_id            uuid        NOT NULL,
    template_revision_id   uuid        NOT NULL,
    conversation_id        text,                  -- always empty (NULL or '') for process scorecards
    agent_user_id          text,
    creator_user_id        text,
    submission_source      smallint,
    scorecard_type         smallint,              -- NULL or 0 = normal; 1, 2, 3 = appeals, which never leave Postgres
    score                  double precision,
    process_interaction_at timestamptz,
    created_at             timestamptz NOT NULL,
    updated_at             timestamptz NOT NULL,
    submitted_at           timestamptz,
    PRIMARY KEY (customer, profile, scorecard_id)
);
CREATE INDEX IF NOT EXISTS scorecards_by_interaction ON director.scorecards (customer, process_interaction_at);
CREATE INDEX IF NOT EXISTS scorecards_by_creation ON director.scorecards (customer, created_at);
CREATE INDEX IF NOT EXISTS scorecards_by_conversation ON director.scorecards (customer, profile, conversation_id);

CREATE TABLE IF NOT EXISTS historic.scorecard_scores (
    customer        text             NOT NULL,
    profile         text             NOT NULL,
    scorecard_id    uuid             NOT NULL,
    score_id        uuid             NOT NULL,
    criterion_id    text             NOT NULL,
    numeric_value   double precision,
    ai_value        double precision,
    text_value      text,
    weight          double precision,
    percentage      double precision,
    not_applicable  boolean          NOT NULL DEFAULT false,
    auto_failed     boolean          NOT NULL DEFAULT false,
    comment         text,
    PRIMARY KEY (customer, profile, scorecard_id, score_id)
);

CREATE TABLE IF NOT EXISTS app.chats (
    customer        text        NOT NULL,
    profile         text        NOT NULL,
    conversation_id text        NOT NULL,
    agent_user_id   text,
    conversation_start_time timestamptz,
    conversation_end_time   timestamptz,
    PRIMARY KEY (customer, profile, conversation_id)
);
-- A stack that was made before the column had the product's name.
DO $$
BEGIN
    IF EXISTS (SELECT FROM information_schema.columns
               WHERE table_schema = 'app' AND table_name = 'chats' AND column_name = 'started_at') THEN
        DROP INDEX IF EXISTS app.chats_by_start;
        ALTER TABLE app.chats RENAME COLUMN started_at TO conversation_start_time;
        ALTER TABLE app.chats RENAME COLUMN ended_at TO conversation_end_time;
    END IF;
END $$;
CREATE INDEX IF NOT EXISTS chats_by_start ON app.chats (customer, conversation_start_time);
