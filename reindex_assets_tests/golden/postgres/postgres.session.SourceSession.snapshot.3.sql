SELECT
    quote_literal($1) AS literal_1,
    quote_literal($2) AS literal_2,
    quote_literal($3) AS literal_3,
    quote_literal($4) AS literal_4,
    quote_literal($5) AS literal_5,
    quote_literal($6) AS literal_6,
    quote_literal($7) AS literal_7,
    quote_literal($8) AS literal_8,
    quote_literal($9) AS literal_9
