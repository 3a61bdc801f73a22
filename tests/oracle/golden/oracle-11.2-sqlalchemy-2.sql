-- read_newest
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

-- read_newest_before
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

-- read_all
SELECT events.id, events.data, (SELECT users.user_id 
FROM users 
WHERE users.sender_id = :sender_id) AS user_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.sender_id = :sender_id ORDER BY events.id

-- read_all_before
SELECT events.id, events.data, (SELECT users.user_id 
FROM users 
WHERE users.sender_id = :sender_id) AS user_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.sender_id = :sender_id AND events.id < :before ORDER BY events.id

-- newest_id
SELECT max(events.id) AS max_1 
FROM events 
WHERE events.sender_id = :sender_id AND events.id > :id_1

-- delete_events
DELETE FROM events WHERE events.sender_id = :sender_id AND events.id > :id_1

-- delete_replaced
DELETE FROM events WHERE events.sender_id = :sender_id AND events.id > :id_1 AND events.id <= :after

-- expired
SELECT rasa_trackers_expiry.sender_id 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id))

-- overdue
SELECT rasa_trackers_expiry.sender_id 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')))

-- delete_expiry
DELETE FROM rasa_trackers_expiry WHERE rasa_trackers_expiry.sender_id = :sender_id

-- insert_expiry
INSERT INTO rasa_trackers_expiry (sender_id, expires_at, last_id) VALUES (:sender_id, ((EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) + :seconds), :last_id)

-- keep_expiry
UPDATE rasa_trackers_expiry SET last_id=:new_last_id WHERE rasa_trackers_expiry.sender_id = :conversation AND rasa_trackers_expiry.last_id >= :after

-- delete_overdue
DELETE FROM rasa_trackers_expiry WHERE rasa_trackers_expiry.sender_id = :sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')))

-- lock
INSERT INTO events (id, sender_id, type_name) VALUES (:lock_id, :sender_id, :type_name)

-- unlock
DELETE FROM events WHERE events.id = :lock_id

-- draw
SELECT events_seq.nextval AS next_value_1 FROM DUAL

-- insert_events
INSERT INTO events (id, sender_id, type_name, timestamp, intent_name, action_name, data) VALUES (events_seq.nextval, :sender_id, :type_name, :timestamp, :intent_name, :action_name, :data)

-- delete_user
DELETE FROM users WHERE users.sender_id = :sender_id

-- insert_user
INSERT INTO users (sender_id, user_id, conversation_started_timestamp) VALUES (:conversation, :new_user_id, :started)

-- change_user
UPDATE users SET user_id=:new_user_id, conversation_started_timestamp=coalesce(users.conversation_started_timestamp, :started) WHERE users.sender_id = :conversation

-- texts
SELECT events.sender_id, events.data 
FROM events 
WHERE events.sender_id IN (__[POSTCOMPILE_sender_ids]) AND events.id > :id_1 ORDER BY events.sender_id, events.id

-- sender_ids
SELECT DISTINCT events.sender_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = events.sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) ORDER BY events.sender_id

-- active
SELECT DISTINCT events.sender_id 
FROM events 
WHERE NOT (EXISTS (SELECT * 
FROM rasa_trackers_expiry 
WHERE rasa_trackers_expiry.sender_id = events.sender_id AND rasa_trackers_expiry.expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND NOT (EXISTS (SELECT * 
FROM events later 
WHERE later.sender_id = rasa_trackers_expiry.sender_id AND later.id > rasa_trackers_expiry.last_id)))) AND events.timestamp >= :since AND events.id >= :first_id AND events.id <= :last_id

-- lowest_id
SELECT min(events.id) AS min_1 
FROM events 
WHERE events.id > :after

-- conversations_of
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
too_late NUMBER;
BEGIN
INSERT INTO events (id, sender_id, type_name) VALUES (:lock_id, :sender_id, 'lock');
SELECT MAX(id) INTO newest FROM events WHERE sender_id = :sender_id AND id > 0;
SELECT COUNT(*) INTO too_late FROM rasa_trackers_expiry WHERE sender_id = :sender_id AND expires_at <= (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) AND last_id >= NVL(newest, 0);
IF too_late > 0 THEN
SELECT -1 INTO newest FROM dual;
SELECT -1 INTO :new_id FROM dual;
END IF;
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
DELETE FROM rasa_trackers_expiry WHERE sender_id = :sender_id;
INSERT INTO rasa_trackers_expiry (sender_id, expires_at, last_id) VALUES (:sender_id, (EXTRACT(DAY FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 86400 + EXTRACT(HOUR FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 3600 + EXTRACT(MINUTE FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00')) * 60 + EXTRACT(SECOND FROM (SYSTIMESTAMP - TIMESTAMP '1970-01-01 00:00:00 +00:00'))) + 60.0, events_seq.CURRVAL);
SELECT events_seq.CURRVAL INTO :new_id FROM dual;
END IF;
DELETE FROM events WHERE id = :lock_id;
COMMIT;
EXCEPTION WHEN OTHERS THEN
ROLLBACK;
RAISE;
END;

-- comparison
DECLARE
newest NUMBER;
drawn NUMBER;
too_late NUMBER;
BEGIN
SELECT MAX(id) INTO newest FROM events WHERE sender_id = :sender_id AND id > 0;
IF NVL(newest, 0) = :after_id THEN
FOR attempt IN 1..20000 LOOP
SELECT events_seq.NEXTVAL INTO drawn FROM dual;
EXIT WHEN drawn > :after_id;
END LOOP;
IF drawn <= :after_id THEN
RAISE_APPLICATION_ERROR(-20321, 'the sequence is behind');
END IF;
SELECT events_seq.CURRVAL INTO :new_id FROM dual;
END IF;
EXCEPTION WHEN OTHERS THEN
ROLLBACK;
RAISE;
END;

