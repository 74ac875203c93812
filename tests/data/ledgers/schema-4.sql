-- A ledger as schema 4 of fluxburst wrote it. It never changes: ledgers of its kind are out there.
PRAGMA application_id = 1718384738;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE breakers (
    plugin TEXT NOT NULL,
    node_type TEXT NOT NULL,
    failures INTEGER NOT NULL,
    retry_at REAL,
    error TEXT NOT NULL,
    PRIMARY KEY (plugin, node_type)
);
INSERT INTO "breakers" VALUES('mock','small',3,1790090000.0,'the cloud has none left');
CREATE TABLE bursts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    plugin TEXT NOT NULL,
    node_type TEXT NOT NULL,
    nodes INTEGER NOT NULL,
    jobs TEXT NOT NULL,
    user INTEGER,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    hostnames TEXT NOT NULL,
    price REAL NOT NULL,
    error TEXT NOT NULL,
    joined INTEGER NOT NULL,
    since REAL,
    lease_until REAL,
    requested REAL NOT NULL,
    created REAL,
    started REAL,
    ready REAL,
    idle REAL,
    ended REAL,
    reason TEXT NOT NULL
, isolated INTEGER NOT NULL DEFAULT 0, exit_code INTEGER, output TEXT NOT NULL DEFAULT '', waiting_for TEXT NOT NULL DEFAULT '', end_reason TEXT NOT NULL DEFAULT '', leftover TEXT NOT NULL DEFAULT '');
INSERT INTO "bursts" VALUES(1,'mock-aaaaaaaaaaaa','mock','large',2,'[101, 102]',1000,'batch','ended','["cloud0", "cloud1"]',0.5,'',2,1790000000.0,1790003600.0,1790000000.0,1790000001.0,1790000002.0,1790000060.0,1790005000.0,1790007200.0,'no job has been on it, or waited for it, for 5m',0,NULL,'','','idle','');
INSERT INTO "bursts" VALUES(2,'mock-bbbbbbbbbbbb','mock','large',2,'[103]',1000,'batch','ready','["cloud0", "cloud1"]',0.5,'',2,1790010000.0,1790013600.0,1790010000.0,1790010001.0,1790010002.0,1790010060.0,NULL,NULL,'',0,NULL,'','','','');
INSERT INTO "bursts" VALUES(3,'mock-cccccccccccc','mock','large',2,'[104]',1000,'batch','ended','[]',0.5,'',2,1790000100.0,1790003700.0,1790000100.0,1790000101.0,1790000102.0,1790000160.0,NULL,1790000400.0,'it exited with 3',1,3,'/tmp/out','','job_ended','');
CREATE TABLE decisions (
    job INTEGER NOT NULL,
    at REAL NOT NULL,
    outcome TEXT NOT NULL,
    plugin TEXT NOT NULL,
    reasons TEXT NOT NULL
);
INSERT INTO "decisions" VALUES(101,1790000000.0,'assigned','mock','["it fits on large"]');
CREATE TABLE instance (name TEXT NOT NULL);
INSERT INTO "instance" VALUES('lead:/run/flux');
CREATE TABLE placements (
    job INTEGER NOT NULL,
    plugin TEXT NOT NULL,
    burst TEXT NOT NULL,
    at REAL NOT NULL,
    freed REAL,
    reason TEXT NOT NULL DEFAULT ''
, queue TEXT NOT NULL DEFAULT '', urgency INTEGER, setback TEXT NOT NULL DEFAULT '');
INSERT INTO "placements" VALUES(101,'mock','mock-aaaaaaaaaaaa',1790000000.0,1790000050.0,'it was given anew','batch',NULL,'');
INSERT INTO "placements" VALUES(101,'mock','mock-aaaaaaaaaaaa',1790000050.0,NULL,'','batch',NULL,'');
INSERT INTO "placements" VALUES(103,'mock','mock-bbbbbbbbbbbb',1790010000.0,NULL,'','batch',NULL,'');
INSERT INTO "placements" VALUES(104,'mock','mock-cccccccccccc',1790000100.0,NULL,'','',16,'');
CREATE TABLE transitions (
    burst INTEGER NOT NULL REFERENCES bursts (id),
    at REAL NOT NULL,
    previous TEXT,
    state TEXT NOT NULL,
    reason TEXT NOT NULL
);
INSERT INTO "transitions" VALUES(1,1790000000.0,NULL,'requested','');
INSERT INTO "transitions" VALUES(1,1790000060.0,'requested','ready','');
INSERT INTO "transitions" VALUES(1,1790007000.0,'ready','draining','no job has been on it, or waited for it, for 5m');
INSERT INTO "transitions" VALUES(1,1790007200.0,'draining','ended','no job has been on it, or waited for it, for 5m');
INSERT INTO "transitions" VALUES(2,1790010000.0,NULL,'requested','');
INSERT INTO "transitions" VALUES(2,1790010060.0,'requested','ready','');
CREATE TABLE usage (
    burst INTEGER NOT NULL REFERENCES bursts (id),
    job INTEGER NOT NULL,
    user INTEGER NOT NULL,
    nodes REAL NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    PRIMARY KEY (burst, job)
);
INSERT INTO "usage" VALUES(1,101,1000,1.0,1790000060.0,1790003660.0);
INSERT INTO "usage" VALUES(2,103,1000,2.0,1790010060.0,NULL);
CREATE UNIQUE INDEX one_of_a_name ON bursts (name);
CREATE INDEX by_end ON bursts (ended);
CREATE INDEX transitions_of ON transitions (burst);
CREATE INDEX placements_of ON placements (job);
CREATE INDEX running ON usage (ended);
CREATE INDEX decisions_of ON decisions (job);
CREATE INDEX decisions_by_time ON decisions (at);
COMMIT;
