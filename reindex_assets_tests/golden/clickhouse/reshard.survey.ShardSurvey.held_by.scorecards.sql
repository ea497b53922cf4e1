SELECT count() AS found FROM scorecard
