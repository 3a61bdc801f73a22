-- The tables of rasa_trackers in an Oracle database, 11.2 or later.
--
-- Run it as the user that Rasa connects as, or as the owner of a schema of its own
-- (option 'schema'). What is there already answers ORA-00955 or ORA-01408 and stays
-- as it is: tables that Rasa's own SQLTrackerStore has made are used as they are.
--
-- A user that is not the owner needs, for <user>:
--   GRANT SELECT, INSERT, UPDATE, DELETE ON events TO <user>;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON rasa_trackers_expiry TO <user>;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON users TO <user>;
--   GRANT SELECT ON events_seq TO <user>;

CREATE SEQUENCE events_seq ORDER;

CREATE TABLE events (
  id INTEGER NOT NULL,
  sender_id VARCHAR2(255 CHAR) NOT NULL,
  type_name VARCHAR2(255 CHAR) NOT NULL,
  timestamp BINARY_DOUBLE,
  intent_name VARCHAR2(255 CHAR),
  action_name VARCHAR2(255 CHAR),
  data CLOB,
  PRIMARY KEY (id)
);

CREATE INDEX ix_events_sender_id ON events (sender_id);

CREATE INDEX ix_events_sender_id_id ON events (sender_id, id);

-- Only for the option 'record_exp'.
CREATE TABLE rasa_trackers_expiry (
  sender_id VARCHAR2(255 CHAR) NOT NULL,
  expires_at BINARY_DOUBLE NOT NULL,
  last_id INTEGER NOT NULL,
  PRIMARY KEY (sender_id)
);

CREATE INDEX ix_rasa_trackers_expires_at ON rasa_trackers_expiry (expires_at);

-- Only for Rasa Pro.
CREATE TABLE users (
  sender_id VARCHAR2(255 CHAR) NOT NULL,
  user_id VARCHAR2(255 CHAR) NOT NULL,
  conversation_started_timestamp BINARY_DOUBLE,
  PRIMARY KEY (sender_id)
);

CREATE INDEX ix_users_user_id ON users (user_id);
