INSERT INTO sessions (session, tenant, name, state, created_ms, closed_ms, check_sum, spec) VALUES (1, 'acme', 'session é 1', 0, 1000, NULL, 3580766277, '\x01f5c8407c89ab6170706c69636174696f6ea672656e646572ab636f6d6d6f6e5f64617461c40700636f6d6d6f6ead6d696e5f696e7374616e63657300ad6d61785f696e7374616e636573c0aa62617463685f73697a6501a87072696f7269747903a97265736f757263657384aa6370755f6d696c6c6973cd03e8ac6d656d6f72795f6279746573ce40000000a46770757300a665787472617390aa6475726162696c69747900ac6d61785f617474656d70747303');
INSERT INTO batches (session, first_id, count, submitter, first_number, created_ms, check_sum, inputs) VALUES (1, 1, 2, '\x7375626d69747465722d6e756d626572', 0, 2000, 4280869446, '\x011e943c0e92c40131c40132');
INSERT INTO outcomes (session, first_position, count, min_id, max_id, width, succeeded, failed, cancelled, finished_ms, check_sum, ids, results) VALUES (1, 0, 1, 2, 2, 0, 1, 0, 0, 3000, 3532685577, NULL, '\x01efd7aef49291c4086f7574707574203290');
INSERT INTO meta (name, value, check_sum) VALUES ('next_session', 2, 4091646854);
INSERT INTO groups (number) VALUES (1);
UPDATE lease SET epoch = 4, fence = 7, holder = 'process 1 on somewhere';
