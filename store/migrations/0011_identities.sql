-- A repository has one identity whatever protocol, port or letters it is named by. What was kept under others gets it, by
-- oneIdentity: images would not be found, and bans would ban nothing.
SELECT 1;
