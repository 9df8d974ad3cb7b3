CREATE TABLE account_changes (
	revision BIGINT NOT NULL, 
	key_id VARCHAR(12), 
	cut BOOLEAN NOT NULL, 
	forget_all BOOLEAN NOT NULL, 
	PRIMARY KEY (revision)
);

INSERT INTO "account_changes" VALUES(1,NULL,0,1);

CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

INSERT INTO "alembic_version" VALUES('0003');

CREATE TABLE alerts (
	id VARCHAR(64) NOT NULL, 
	kind TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	message TEXT NOT NULL, 
	level INTEGER NOT NULL, 
	opened_at_us BIGINT NOT NULL, 
	seen_at_us BIGINT NOT NULL, 
	resolved_at_us BIGINT, 
	PRIMARY KEY (id)
);

CREATE TABLE attempt_days (
	day BIGINT NOT NULL, 
	series BIGINT NOT NULL, 
	attempts BIGINT NOT NULL, 
	unpriced BIGINT NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	cost_nano BIGINT NOT NULL, 
	duration_us BIGINT NOT NULL, 
	cost_usd DOUBLE NOT NULL, 
	PRIMARY KEY (day, series)
)
 WITHOUT ROWID

;

CREATE TABLE attempt_hours (
	hour BIGINT NOT NULL, 
	series BIGINT NOT NULL, 
	attempts BIGINT NOT NULL, 
	unpriced BIGINT NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	cost_nano BIGINT NOT NULL, 
	duration_us BIGINT NOT NULL, 
	cost_usd DOUBLE NOT NULL, 
	PRIMARY KEY (hour, series)
)
 WITHOUT ROWID

;

CREATE TABLE attempt_key_days (
	key_id TEXT NOT NULL, 
	day BIGINT NOT NULL, 
	cost_nano BIGINT NOT NULL, 
	PRIMARY KEY (key_id, day)
)
 WITHOUT ROWID

;

CREATE TABLE attempt_series (
	id INTEGER NOT NULL, 
	digest VARCHAR(32) NOT NULL, 
	project TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	requested_model TEXT, 
	sent_model TEXT, 
	answered_model TEXT, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_attempt_series_digest UNIQUE (digest)
);

CREATE TABLE attempts (
	event_id VARCHAR(64) NOT NULL, 
	request_id TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	key_id TEXT, 
	operation VARCHAR(16) NOT NULL, 
	provider TEXT NOT NULL, 
	requested_model TEXT, 
	sent_model TEXT, 
	answered_model TEXT, 
	started_at_us BIGINT NOT NULL, 
	duration_us BIGINT NOT NULL, 
	first_event_us BIGINT, 
	status VARCHAR(16) NOT NULL, 
	error_reason TEXT, 
	error_message TEXT, 
	upstream_status INTEGER, 
	finish_reason TEXT, 
	input_uncached BIGINT, 
	input_cache_read BIGINT, 
	input_cache_write_5m BIGINT, 
	input_cache_write_1h BIGINT, 
	tool_use_prompt BIGINT, 
	output_text BIGINT, 
	output_reasoning BIGINT, 
	input_audio BIGINT, 
	input_image BIGINT, 
	output_audio BIGINT, 
	output_image BIGINT, 
	input_cache_read_audio BIGINT, 
	usage_estimated BOOLEAN NOT NULL, 
	native_usage TEXT, 
	trace_id VARCHAR(32), 
	cost_usd DOUBLE, 
	price_source TEXT, fallback_from TEXT, hedge BOOLEAN DEFAULT 0 NOT NULL, 
	PRIMARY KEY (event_id)
);

CREATE TABLE audit_events (
	id INTEGER NOT NULL, 
	at_us BIGINT NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	detail_json TEXT NOT NULL, 
	request_id TEXT, 
	PRIMARY KEY (id)
);

CREATE TABLE budget_spending (
	budget_id TEXT NOT NULL, 
	period_start_us BIGINT NOT NULL, 
	spent_nano BIGINT NOT NULL, 
	reserved_nano BIGINT NOT NULL, 
	PRIMARY KEY (budget_id, period_start_us)
);

CREATE TABLE budgets (
	id TEXT NOT NULL, 
	scope VARCHAR(8) NOT NULL, 
	subject TEXT NOT NULL, 
	period VARCHAR(8) NOT NULL, 
	limit_nano BIGINT NOT NULL, 
	allow_unpriced BOOLEAN NOT NULL, 
	overridden_until_us BIGINT, 
	created_at_us BIGINT NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE keys (
	id VARCHAR(12) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	project VARCHAR(63) NOT NULL, 
	name TEXT NOT NULL, 
	prefix VARCHAR(10) NOT NULL, 
	requests_per_minute BIGINT, 
	tokens_per_minute BIGINT, 
	concurrent_calls INTEGER, 
	allowed_models TEXT NOT NULL, 
	default_model TEXT, 
	default_max_output_tokens BIGINT, 
	created_at_us BIGINT NOT NULL, 
	expires_at_us BIGINT, 
	revoked_at_us BIGINT, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_keys_sha256 UNIQUE (sha256)
);

CREATE TABLE projects (
	id VARCHAR(63) NOT NULL, 
	name TEXT NOT NULL, 
	requests_per_minute BIGINT, 
	tokens_per_minute BIGINT, 
	concurrent_calls INTEGER, 
	allowed_models TEXT NOT NULL, 
	default_model TEXT, 
	default_max_output_tokens BIGINT, 
	created_at_us BIGINT NOT NULL, 
	disabled BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);

INSERT INTO "projects" VALUES('default','Default',NULL,NULL,NULL,'[]',NULL,NULL,0,0);

CREATE TABLE reservations (
	event_id VARCHAR(64) NOT NULL, 
	budget_id TEXT NOT NULL, 
	period_start_us BIGINT NOT NULL, 
	amount_nano BIGINT NOT NULL, 
	content VARCHAR(64) NOT NULL, 
	expires_at_us BIGINT NOT NULL, 
	PRIMARY KEY (event_id, budget_id)
);

CREATE TABLE webhook_deliveries (
	id VARCHAR(64) NOT NULL, 
	alert_id VARCHAR(64) NOT NULL, 
	event TEXT NOT NULL, 
	url TEXT NOT NULL, 
	body TEXT NOT NULL, 
	next_try_us BIGINT NOT NULL, 
	tries INTEGER NOT NULL, 
	delivered_at_us BIGINT, 
	abandoned_at_us BIGINT, 
	PRIMARY KEY (id)
);

CREATE INDEX ix_attempts_started ON attempts (started_at_us, event_id);

CREATE INDEX ix_attempts_request ON attempts (request_id);

CREATE INDEX ix_attempts_project ON attempts (project, started_at_us);

CREATE VIEW requests AS SELECT
  event_id AS id,
  request_id,
  attempt,
  strftime('%Y-%m-%dT%H:%M:%fZ', started_at_us / 1000000.0, 'unixepoch') AS started_at,
  project,
  key_id,
  operation,
  provider,
  sent_model AS model,
  requested_model,
  answered_model,
  CASE WHEN coalesce(input_uncached, input_cache_read, input_cache_write_5m, input_cache_write_1h, tool_use_prompt) IS NOT NULL THEN coalesce(input_uncached, 0) + coalesce(input_cache_read, 0) + coalesce(input_cache_write_5m, 0) + coalesce(input_cache_write_1h, 0) + coalesce(tool_use_prompt, 0) END AS prompt_tokens,
  CASE WHEN coalesce(output_text, output_reasoning) IS NOT NULL THEN coalesce(output_text, 0) + coalesce(output_reasoning, 0) END AS completion_tokens,
  CASE WHEN coalesce(input_uncached, input_cache_read, input_cache_write_5m, input_cache_write_1h, tool_use_prompt, output_text, output_reasoning) IS NOT NULL THEN coalesce(input_uncached, 0) + coalesce(input_cache_read, 0) + coalesce(input_cache_write_5m, 0) + coalesce(input_cache_write_1h, 0) + coalesce(tool_use_prompt, 0) + coalesce(output_text, 0) + coalesce(output_reasoning, 0) END AS total_tokens,
  input_cache_read AS cached_tokens,
  output_reasoning AS reasoning_tokens,
  usage_estimated AS estimated,
  cost_usd,
  duration_us / 1000.0 AS latency_ms,
  first_event_us / 1000.0 AS first_event_ms,
  status = 'ok' AS success,
  status,
  CASE WHEN status = 'ok' THEN NULL ELSE coalesce(error_message, error_reason, status) END AS error,
  error_reason,
  upstream_status,
  finish_reason,
  trace_id,
  fallback_from,
  hedge
FROM attempts;

CREATE INDEX ix_keys_project ON keys (project);

CREATE INDEX ix_budgets_subject ON budgets (scope, subject);

CREATE INDEX ix_reservations_expires ON reservations (expires_at_us);

CREATE INDEX ix_reservations_budget ON reservations (budget_id);

CREATE INDEX ix_alerts_opened ON alerts (opened_at_us, id);

CREATE UNIQUE INDEX uq_alerts_open ON alerts (kind, subject) WHERE resolved_at_us IS NULL;

CREATE INDEX ix_webhook_deliveries_alert ON webhook_deliveries (alert_id);

CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (next_try_us) WHERE delivered_at_us IS NULL AND abandoned_at_us IS NULL;
