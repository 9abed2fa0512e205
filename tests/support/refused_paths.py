"""Paths that the router refuses."""

# What vLLM, MLflow, uvicorn or a careless proxy may have, and what scanners look for.
ELSEWHERE = r"""
/ /metrics /invocations /ping /version /load /tokenize /detokenize /server_info /collective_rpc /reset_prefix_cache
/reset_mm_cache /sleep /wake_up /is_sleeping /start_profile /stop_profile /scale_elastic_ep /is_scaling_elastic_ep
/v1/load_lora_adapter /v1/unload_lora_adapter /v1/score /score /rerank /v1/rerank /v2/rerank /v1/audio/transcriptions
/v1/audio/translations /v1/messages /v1/messages/count_tokens /v1/responses/resp_1 /v1/responses/resp_1/cancel
/v1/chat/completions/render /v1/completions/render /inference/v1/generate /abort_requests /get_tokenizer_info
/tokenizer_info /docs/ /redoc /openapi.yaml /v1 /v1/ /v1/models/ /v1/models/another /v1/files /v1/batches
/v1/fine_tuning/jobs /v1/assistants /v1/threads /v1/images/generations /v1/moderations /pooling /v1/realtime
/update_weights /init_weight_transfer_engine /pause /resume /admin /stats /haproxy /haproxy?stats /.env /.git/config
/server-status /v2/models /v3/models /generate /generate_stream /api/generate /api/chat /api/tags /health/ /healthz
/ready /live /v1/health /debug/pprof /actuator/env /v1/chat /v1/chat/ /v1/completion /v1/chat/completions/ /classify/
/classify.json /Classify /V1/models /v1/Models /v1/embeddings/ /mcp /sdapi/v1/txt2img
"""
# Paths that some proxy would normalise into an allowed one, or out of one.
DISGUISED = r"""
/v1/models/../../metrics /v1/chat/completions/../../../metrics /v1/./models /v1//models //v1/models /./v1/models
/v1/models/. /v1/models/.. /v1/chat/../models /..%2fmetrics /%2e%2e/metrics /v1/%2e%2e/metrics /v1%2fmodels
/v1%2Fchat%2Fcompletions /%76%31/models /v1/model%73 /v1/models%00 /v1/models%20 /v1/models%2f..%2f..%2fmetrics
/v1/models;/../metrics /v1/models;a=b /v1/chat/completions;x /v1\models /\v1/models /v1/chat/completions%3f
/v1/models%23 /classify/..;/metrics /classify%0d%0aX:1 /%c0%ae%c0%ae/metrics /%252e%252e/metrics /v1/models/%2e
/v1/%6dodels /v1/models// /..;/metrics /%2f/metrics /v1/chat/completions%2f /v1/completions/.. /metrics/../v1/models
/health/../metrics /health%2f..%2fmetrics /health/../v1/models /metrics?/v1/models /metrics#/v1/models
"""
