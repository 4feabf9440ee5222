CREATE TABLE schema_version (version INTEGER NOT NULL);

CREATE TABLE runs (
  run_id VARCHAR NOT NULL,
  plan_name VARCHAR NOT NULL,
  plan_hash VARCHAR NOT NULL,
  plan JSON NOT NULL,
  state VARCHAR NOT NULL,
  git_sha VARCHAR,
  versions JSON NOT NULL,
  summary JSON NOT NULL,
  started_at TIMESTAMPTZ NOT NULL,
  finished_at TIMESTAMPTZ
);

CREATE TABLE prompts (
  prompt_id VARCHAR NOT NULL,
  recipe VARCHAR NOT NULL,
  recipe_options JSON NOT NULL,
  messages JSON NOT NULL,
  student_messages JSON NOT NULL,
  question VARCHAR NOT NULL,
  reference JSON NOT NULL,
  passage VARCHAR,
  source VARCHAR NOT NULL,
  seed BIGINT
);

CREATE TABLE calls (
  call_id VARCHAR NOT NULL,
  max_tokens BIGINT NOT NULL,
  teacher VARCHAR NOT NULL,
  sampling JSON NOT NULL,
  text VARCHAR NOT NULL,
  finish_reason VARCHAR NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  latency_s DOUBLE NOT NULL,
  cost_usd DOUBLE,
  raw JSON NOT NULL,
  run_id VARCHAR NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  tries BIGINT NOT NULL,
  reasoning VARCHAR,
  logprobs JSON,
  stage VARCHAR,
  messages JSON
);

CREATE TABLE samples (
  sample_id VARCHAR NOT NULL,
  prompt_id VARCHAR NOT NULL,
  call_ids JSON NOT NULL,
  recipe VARCHAR NOT NULL,
  recipe_version VARCHAR NOT NULL,
  messages JSON NOT NULL,
  completion VARCHAR NOT NULL,
  question VARCHAR NOT NULL,
  reference JSON NOT NULL,
  passage VARCHAR,
  status VARCHAR NOT NULL,
  status_reason VARCHAR,
  facts JSON
);

CREATE TABLE sample_lists (
  list_id VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  facts JSON NOT NULL
);

CREATE TABLE listed_samples (
  list_id VARCHAR NOT NULL,
  place BIGINT NOT NULL,
  sample_id VARCHAR NOT NULL
);

CREATE TABLE gate_inputs (
  input_id VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  content JSON NOT NULL
);

CREATE TABLE seed_runs (
  seed_run_id VARCHAR NOT NULL,
  recipe VARCHAR NOT NULL,
  recipe_version VARCHAR NOT NULL,
  prompt_id VARCHAR NOT NULL,
  call_ids JSON NOT NULL,
  run_id VARCHAR NOT NULL
);

CREATE TABLE rounds (
  round_id VARCHAR NOT NULL,
  recipe VARCHAR NOT NULL,
  number BIGINT NOT NULL,
  seeds BIGINT NOT NULL,
  missing JSON NOT NULL,
  run_id VARCHAR NOT NULL
);

CREATE TABLE scores (
  score_id VARCHAR NOT NULL,
  sample_id VARCHAR NOT NULL,
  scorer VARCHAR NOT NULL,
  version VARCHAR NOT NULL,
  model VARCHAR NOT NULL,
  options JSON NOT NULL,
  value DOUBLE,
  why VARCHAR,
  details JSON
);

CREATE TABLE audit_scores (
  score_id VARCHAR NOT NULL,
  sample_id VARCHAR NOT NULL,
  scorer VARCHAR NOT NULL,
  version VARCHAR NOT NULL,
  model VARCHAR NOT NULL,
  options JSON NOT NULL,
  value DOUBLE,
  why VARCHAR,
  details JSON
);

CREATE TABLE choices (
  selection_id VARCHAR NOT NULL,
  sample_id VARCHAR NOT NULL,
  kept BOOLEAN NOT NULL,
  reason VARCHAR NOT NULL,
  reasons JSON NOT NULL,
  details JSON
);

CREATE TABLE measurements (
  measurement_id VARCHAR NOT NULL,
  scorer VARCHAR NOT NULL,
  version VARCHAR NOT NULL,
  model VARCHAR NOT NULL,
  options JSON NOT NULL,
  dataset VARCHAR NOT NULL,
  rows BIGINT NOT NULL,
  figures JSON NOT NULL,
  note VARCHAR,
  created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE students (
  student_id VARCHAR NOT NULL,
  base VARCHAR NOT NULL,
  tuner JSON NOT NULL,
  objective JSON NOT NULL,
  selection_id VARCHAR NOT NULL,
  config JSON NOT NULL,
  seed BIGINT NOT NULL,
  path VARCHAR NOT NULL,
  losses JSON NOT NULL,
  audit JSON NOT NULL,
  versions JSON NOT NULL,
  seconds DOUBLE NOT NULL,
  run_id VARCHAR NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE promotions (
  promotion_id VARCHAR NOT NULL,
  plan_name VARCHAR NOT NULL,
  student_id VARCHAR NOT NULL,
  before VARCHAR,
  how VARCHAR NOT NULL,
  run_id VARCHAR,
  created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE answers (
  answer_id VARCHAR NOT NULL,
  benchmark VARCHAR NOT NULL,
  benchmark_version VARCHAR NOT NULL,
  item_id VARCHAR NOT NULL,
  contestant VARCHAR NOT NULL,
  contestant_id VARCHAR NOT NULL,
  settings JSON NOT NULL,
  text VARCHAR NOT NULL,
  grades JSON NOT NULL,
  abstained VARCHAR,
  finish_reason VARCHAR NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  latency_s DOUBLE NOT NULL,
  cost_usd DOUBLE,
  run_id VARCHAR NOT NULL,
  details JSON
);

CREATE TABLE run_answers (
  run_id VARCHAR NOT NULL,
  benchmark VARCHAR NOT NULL,
  contestant VARCHAR NOT NULL,
  answer_id VARCHAR NOT NULL
);

CREATE TABLE failures (
  run_id VARCHAR NOT NULL,
  stage VARCHAR NOT NULL,
  subject VARCHAR NOT NULL,
  error VARCHAR NOT NULL,
  permanent BOOLEAN NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);

CREATE OR REPLACE VIEW ledger AS
SELECT c.run_id, coalesce(r.plan_name, c.run_id) AS plan_name, c.teacher,
       coalesce(p.recipe, h.recipe, CASE c.stage WHEN 'curate' THEN 'scoring' END,
                'in no sample yet') AS recipe, count(*) AS calls,
       sum(c.prompt_tokens)::BIGINT AS prompt_tokens,
       sum(c.completion_tokens)::BIGINT AS completion_tokens,
       sum(c.cost_usd) AS cost_usd, count(*) - count(c.cost_usd) AS calls_without_price,
       sum(coalesce(c.tries, 1) - 1)::BIGINT AS retries,
       count(*) FILTER (WHERE c.finish_reason = 'length') AS cut_off,
       quantile_cont(c.latency_s, 0.5) AS latency_p50_s,
       quantile_cont(c.latency_s, 0.95) AS latency_p95_s,
       quantile_cont(c.latency_s, 0.99) AS latency_p99_s
FROM calls c LEFT JOIN runs r USING (run_id)
LEFT JOIN (
  SELECT call_id, min(recipe) AS recipe
  FROM (SELECT unnest(from_json(call_ids, '["VARCHAR"]')) AS call_id, recipe FROM samples)
  GROUP BY call_id
) p USING (call_id)
LEFT JOIN (
  SELECT DISTINCT json_extract_string(settings, '$.call_id') AS call_id,
         'held-out items' AS recipe
  FROM answers
) h USING (call_id)
GROUP BY ALL ORDER BY c.run_id, c.teacher, recipe;

CREATE OR REPLACE VIEW newest_choices AS
SELECT c.* FROM choices c WHERE c.selection_id = (
  SELECT json_extract_string(summary, '$.selection_id') AS selection_id FROM runs
  WHERE selection_id IS NOT NULL ORDER BY started_at DESC LIMIT 1
);

CREATE OR REPLACE VIEW scores_of_newest_choices AS
WITH run AS (
  SELECT json_extract(summary, '$.scorers') AS scorers FROM runs
  WHERE json_extract_string(summary, '$.selection_id') IS NOT NULL ORDER BY started_at DESC LIMIT 1
), present AS (
  SELECT unnest(from_json(scorers, '[{"scorer": "VARCHAR", "version": "VARCHAR",
                                      "model": "VARCHAR", "options": "JSON"}]')) AS scorer FROM run
), human AS (
  SELECT arg_max(score_id, json_extract_string(details, '$.decided_at')) AS score_id FROM scores
  WHERE scorer = 'human' AND value IS NOT NULL AND score_id NOT IN (
    SELECT json_extract_string(details, '$.withdraws') FROM scores
    WHERE json_extract_string(details, '$.withdraws') IS NOT NULL
  ) GROUP BY sample_id
)
SELECT s.*, CASE
  WHEN s.scorer = 'human' THEN s.score_id IN (SELECT score_id FROM human)
  WHEN (SELECT scorers FROM run) IS NULL THEN count(*) OVER (PARTITION BY s.sample_id, s.scorer) = 1
  ELSE EXISTS (
    SELECT 1 FROM present WHERE present.scorer.scorer = s.scorer
      AND present.scorer.version = s.version AND present.scorer.model = s.model
      AND json(present.scorer.options)::VARCHAR = json(s.options)::VARCHAR
  ) END AS used
FROM scores s;

CREATE OR REPLACE VIEW samples_with_scores AS
SELECT s.sample_id, s.recipe, s.status, c.kept, c.reason, c.reasons, g.scores, g.unused_scores,
       s.question, s.completion, s.reference
FROM samples s LEFT JOIN newest_choices c USING (sample_id)
LEFT JOIN (
  SELECT sample_id, string_agg(shown, '; ' ORDER BY scorer) FILTER (WHERE used) AS scores,
         string_agg(shown || ' [version ' || version || ', ' || model || ', ' || options || ']', '; '
                    ORDER BY scorer, version) FILTER (WHERE NOT used) AS unused_scores
  FROM (
    SELECT *, scorer || ' ' || coalesce(round(value, 3)::VARCHAR, 'abstained')
              || coalesce(' (' || why || ')', '') AS shown
    FROM scores_of_newest_choices
  ) GROUP BY sample_id
) g USING (sample_id)
ORDER BY c.kept NULLS LAST, c.reason, s.sample_id;

CREATE OR REPLACE VIEW fitted_students AS
WITH steps AS (
  SELECT student_id, unnest(from_json(losses,
    '[{"step": "DOUBLE", "loss": "DOUBLE", "held_out_loss": "DOUBLE"}]')) AS seen
  FROM students
), looks AS (
  SELECT student_id, min({'loss': seen.held_out_loss, 'step': seen.step}) AS best
  FROM steps WHERE seen.held_out_loss IS NOT NULL GROUP BY student_id
), kept AS (
  SELECT student_id, any_value(best.step)::BIGINT AS best_step, any_value(best.loss) AS held_out_loss,
         arg_max(seen.loss, seen.step) AS final_loss
  FROM steps LEFT JOIN looks USING (student_id)
  WHERE seen.loss IS NOT NULL AND seen.step <= coalesce(best.step, seen.step) GROUP BY student_id
)
SELECT s.student_id, json_extract_string(s.tuner, '$.use') AS tuner,
       json_extract(s.audit, '$.rows_kept')::BIGINT
         - coalesce(json_extract(s.audit, '$.held_out_rows')::BIGINT, 0) AS rows,
       json_extract(s.config, '$.epochs')::BIGINT AS epochs, k.final_loss, k.held_out_loss,
       k.best_step, json_extract(s.audit, '$.memory')::BIGINT AS memory, s.seconds, s.created_at,
       s.base, s.run_id, s.path
FROM students s LEFT JOIN kept k USING (student_id)
ORDER BY s.created_at DESC;

CREATE OR REPLACE VIEW funnel AS
SELECT selection_id, count(*) AS samples, count(*) FILTER (WHERE kept) AS kept
FROM choices GROUP BY selection_id ORDER BY selection_id;

CREATE OR REPLACE VIEW drop_reasons AS
SELECT selection_id, reason, count(*) AS samples
FROM choices WHERE NOT kept GROUP BY ALL ORDER BY selection_id, samples DESC, reason;

CREATE OR REPLACE VIEW grades AS
SELECT a.benchmark, a.contestant, a.contestant_id, a.item_id, a.text, a.abstained,
       g.key AS metric, TRY_CAST(g.value AS DOUBLE) AS value
FROM answers a, json_each(a.grades) g;

CREATE OR REPLACE VIEW standings AS
SELECT e.run_id, e.benchmark, e.contestant, g.key AS metric,
       count(TRY_CAST(g.value AS DOUBLE)) AS graded, avg(TRY_CAST(g.value AS DOUBLE)) AS mean
FROM run_answers e JOIN answers a USING (answer_id), json_each(a.grades) g
GROUP BY ALL ORDER BY e.run_id, e.benchmark, e.contestant, metric;
