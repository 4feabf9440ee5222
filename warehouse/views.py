"""Named SQL behind reports and the command line."""

VIEWS = {
    "ledger": """
SELECT run_id, teacher, count(*) AS calls, sum(prompt_tokens)::BIGINT AS prompt_tokens,
       sum(completion_tokens)::BIGINT AS completion_tokens, sum(cost_usd) AS cost_usd,
       count(*) - count(cost_usd) AS calls_without_price,
       quantile_cont(latency_s, 0.5) AS latency_p50_s,
       quantile_cont(latency_s, 0.95) AS latency_p95_s
FROM calls GROUP BY ALL ORDER BY run_id
""",
    "samples_with_choices": """
SELECT s.sample_id, s.recipe, s.status, c.selection_id, c.kept, c.reason,
       s.question, s.completion, s.reference
FROM samples s LEFT JOIN choices c USING (sample_id)
ORDER BY s.sample_id, c.selection_id
""",
    "funnel": """
SELECT selection_id, count(*) AS samples, count(*) FILTER (WHERE kept) AS kept
FROM choices GROUP BY selection_id ORDER BY selection_id
""",
    "drop_reasons": """
SELECT selection_id, reason, count(*) AS samples
FROM choices WHERE NOT kept GROUP BY ALL ORDER BY selection_id, samples DESC, reason
""",
    "grades": """
SELECT a.benchmark, a.contestant, a.contestant_id, a.item_id, a.text, a.abstained,
       g.key AS metric, TRY_CAST(g.value AS DOUBLE) AS value
FROM answers a, json_each(a.grades) g
""",
}
