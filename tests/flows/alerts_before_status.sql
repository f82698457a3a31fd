BEGIN TRANSACTION;
CREATE TABLE alerts (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR(64) NOT NULL, 
	organisation TEXT NOT NULL, 
	user TEXT NOT NULL, 
	type VARCHAR(64) NOT NULL, 
	score DOUBLE NOT NULL, 
	raw_score DOUBLE NOT NULL, 
	confidence DOUBLE NOT NULL, 
	priority VARCHAR(16) NOT NULL, 
	signals TEXT NOT NULL, 
	model VARCHAR(128) NOT NULL, 
	model_version VARCHAR(64) NOT NULL, 
	features TEXT NOT NULL, 
	event_at BIGINT NOT NULL, 
	scored_at BIGINT NOT NULL, 
	stored_at BIGINT NOT NULL, 
	reasons TEXT NOT NULL, 
	UNIQUE (id)
);
INSERT INTO "alerts" VALUES(1,'al_9bfc9bac36f93fb355e8438daf2f5c3f','acme','u1','LIKELY_TO_SELL',0.7,0.6,0.8,'HIGH','[{"name":"value_checks","strength":0.8,"confidence":0.7,"counts":{"last_30d":5.0},"window":"30 d"}]','likely_to_sell','20260101000000','[1.0,0.0,0.30000000000000004]',1001,1002,0,'[]');
CREATE TABLE outcomes (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	prediction_id VARCHAR(256) NOT NULL, 
	revision INTEGER NOT NULL, 
	organisation TEXT NOT NULL, 
	model VARCHAR(128) NOT NULL, 
	predicted_at BIGINT NOT NULL, 
	outcome SMALLINT NOT NULL, 
	value DOUBLE, 
	at BIGINT, 
	notes TEXT, 
	recorded_at BIGINT NOT NULL, 
	UNIQUE (prediction_id, revision)
);
CREATE INDEX alerts_by_time ON alerts (organisation, scored_at, seq, score);
CREATE INDEX alerts_by_type ON alerts (organisation, type, scored_at, seq, priority, score);
CREATE INDEX alerts_by_organisation ON alerts (organisation, seq);
CREATE INDEX alerts_by_priority ON alerts (organisation, priority, scored_at, seq, score);
CREATE INDEX alerts_by_user ON alerts (organisation, user, scored_at, seq);
CREATE INDEX outcomes_by_model ON outcomes (organisation, model, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('alerts',1);
COMMIT;
