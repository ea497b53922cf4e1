"""The texts of the made scores.

What lives here: text that exposes careless escaping, trimming, normalizing or comparing. What does not: code.
"""

# ruff: noqa: RUF001 - this list needs characters that look like others.

#: local/data/made_rows.sql picks one by five bits of a hash: there are 32.
PHRASES = (
    "Greeted the customer by name.",
    "Did not verify the account before reading out the balance",
    "Följde manuset – nästan ordagrant",
    "お客様に丁寧に対応しました。",
    "العميل راضٍ عن الخدمة",
    "הלקוח ביקש לדבר עם מנהל",
    "👍🏽 👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "cafe\u0301 and caf\u00e9",
    "Z̴̡͑a̶l̵g̶o̷",
    "first line\nsecond line",
    "windows line\r\n",
    "\ttabbed\ttext\t",
    "back\\slash, \\n not a newline, \\N not a NULL",
    "quotes: ' \" ` '' \"\" “”",
    "; DROP TABLE score; --",
    "NULL",
    "nan",
    "true",
    "0",
    " leading and trailing blanks ",
    "zero\u200bwidth\u200djoined\ufeff",
    "\u202eright to left override\u202c",
    "\u2028line separator\u2029paragraph separator",
    "\x01\x1b\x7f control characters",
    "{customer:String} %s %(x)s {0} $1 ?",
    '{"json": [1, 2.5, null, "x\\u0000"]}',
    "<b>html</b> &amp; entities",
    "ﬁ ligature, ß, İstanbul, ı",
    "𝕊𝕦𝕣𝕣𝕠𝕘𝕒𝕥𝕖 𐍈 𠜎",
    "a,b;c|d",
    "/* comment */ -- comment",
    "The agent explained the refund, its date and its amount, and asked whether anything else was open.",
)
