-- Before generations were kept in a table, a hub with an appendix keyed its images by a name that only the appendix told,
-- while their results named the rules alone: nothing would find them. nameUnfound gives these a name of their own, by which
-- they serve until a roll-out has replaced them.
SELECT 1;
