-- _read_newest
SELECT anon_1.id, anon_1.data, anon_1.user_id 
FROM (SELECT events.id AS id, events.data AS data, (SELECT users.user_id 
FROM users 
WHERE users.sender_id = :sender_id) AS user_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.sender_id = :sender_id ORDER BY events.id DESC) anon_1 
WHERE ROWNUM <= :limit

-- _read_before
SELECT anon_1.id, anon_1.data, anon_1.user_id 
FROM (SELECT events.id AS id, events.data AS data, (SELECT users.user_id 
FROM users 
WHERE users.sender_id = :sender_id) AS user_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.sender_id = :sender_id AND events.id < :before ORDER BY events.id DESC) anon_1 
WHERE ROWNUM <= :limit

-- _read_all
SELECT events.id, events.data, (SELECT users.user_id 
FROM users 
WHERE users.sender_id = :sender_id) AS user_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.sender_id = :sender_id ORDER BY events.id

-- _newest_id
SELECT max(events.id) AS max_1 
FROM events 
WHERE events.sender_id = :sender_id AND events.id > :id_1

-- _delete_events
DELETE FROM events WHERE events.sender_id = :sender_id AND events.id > :id_1

-- _delete_expired
DELETE FROM events WHERE events.sender_id = :sender_id AND (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.id > :id_1

-- _delete_expiry
DELETE FROM rasa_trackers_expiry WHERE rasa_trackers_expiry.sender_id = :sender_id

-- _insert_expiry
INSERT INTO rasa_trackers_expiry (sender_id, expires_at, last_id) VALUES (:sender_id, ((EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) + :seconds), :last_id)

-- _lock
INSERT INTO events (id, sender_id, type_name) VALUES (:lock_id, :sender_id, :type_name)

-- _unlock
DELETE FROM events WHERE events.id = :lock_id

-- _draw
SELECT events_seq.nextval AS next_value_1 FROM DUAL

-- _insert_events
INSERT INTO events (id, sender_id, type_name, timestamp, intent_name, action_name, data) VALUES (events_seq.nextval, :sender_id, :type_name, :timestamp, :intent_name, :action_name, :data)

-- _delete_user
DELETE FROM users WHERE users.sender_id = :sender_id

-- _delete_expired_user
DELETE FROM users WHERE users.sender_id = :sender_id AND (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id))))

-- _insert_user
INSERT INTO users (sender_id, user_id, conversation_started_timestamp) VALUES (:conversation, :new_user_id, :conversation_started)

-- _change_user
UPDATE users SET user_id=:new_user_id, conversation_started_timestamp=coalesce(users.conversation_started_timestamp, :conversation_started) WHERE users.sender_id = :conversation

-- _texts
SELECT events.sender_id, events.data 
FROM events 
WHERE events.sender_id IN (__[POSTCOMPILE_sender_ids]) AND events.id > :id_1 ORDER BY events.sender_id, events.id

-- _sender_ids
SELECT DISTINCT events.sender_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = events.sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) ORDER BY events.sender_id

-- _active
SELECT DISTINCT events.sender_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = events.sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.timestamp >= :since AND events.id >= :first_id AND events.id <= :last_id

-- _lowest_id
SELECT min(events.id) AS min_1 
FROM events 
WHERE events.id > :after

-- _users_conversations
SELECT anon_1.sender_id, anon_1.conversation_started_timestamp 
FROM (SELECT anon_2.sender_id AS sender_id, anon_2.conversation_started_timestamp AS conversation_started_timestamp, ROWNUM AS ora_rn 
FROM (SELECT users.sender_id AS sender_id, users.conversation_started_timestamp AS conversation_started_timestamp 
FROM users 
WHERE users.user_id = :user_id_1 AND (EXISTS (SELECT * 
FROM events 
WHERE events.sender_id = users.sender_id AND events.id > :id_1)) AND NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = users.sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) ORDER BY coalesce(users.conversation_started_timestamp, :coalesce_1), users.sender_id) anon_2 
WHERE ROWNUM <= __[POSTCOMPILE_param_1] + __[POSTCOMPILE_param_2]) anon_1 
WHERE ora_rn > __[POSTCOMPILE_param_2]

-- block of 2
DECLARE
newest NUMBER;
drawn NUMBER;
BEGIN
INSERT INTO events (id, sender_id, type_name) VALUES (:lock_id, :sender_id, 'lock');
DELETE FROM users WHERE sender_id = :sender_id AND EXISTS (SELECT 1 FROM rasa_trackers_expiry WHERE sender_id = :sender_id AND expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT EXISTS (SELECT 1 FROM events later WHERE later.sender_id = :sender_id AND later.id > last_id));
DELETE FROM events WHERE sender_id = :sender_id AND id > 0 AND EXISTS (SELECT 1 FROM rasa_trackers_expiry WHERE sender_id = :sender_id AND expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT EXISTS (SELECT 1 FROM events later WHERE later.sender_id = :sender_id AND later.id > last_id));
SELECT MAX(id) INTO newest FROM events WHERE sender_id = :sender_id AND id > 0;
IF NVL(newest, 0) = :after_id THEN
FOR attempt IN 1..20000 LOOP
SELECT events_seq.NEXTVAL INTO drawn FROM dual;
EXIT WHEN drawn > :after_id;
END LOOP;
IF drawn <= :after_id THEN
RAISE_APPLICATION_ERROR(-20321, 'the sequence is behind');
END IF;
INSERT INTO events (id, sender_id, type_name, timestamp, intent_name, action_name, data) VALUES (drawn, :sender_id, :type_name_0, :timestamp_0, :intent_name_0, :action_name_0, :data_0);
INSERT INTO events (id, sender_id, type_name, timestamp, intent_name, action_name, data) VALUES (events_seq.NEXTVAL, :sender_id, :type_name_1, :timestamp_1, :intent_name_1, :action_name_1, :data_1);
SELECT events_seq.CURRVAL INTO :new_id FROM dual;
DELETE FROM rasa_trackers_expiry WHERE sender_id = :sender_id;
INSERT INTO rasa_trackers_expiry (sender_id, expires_at, last_id) VALUES (:sender_id, (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) + 60.0, events_seq.CURRVAL);
END IF;
DELETE FROM events WHERE id = :lock_id;
COMMIT;
EXCEPTION WHEN OTHERS THEN
ROLLBACK;
RAISE;
END;

