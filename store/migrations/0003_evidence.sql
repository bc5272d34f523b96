-- What the class of a build was judged by.

ALTER TABLE builds ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
