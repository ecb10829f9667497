kv_test(documents LIBS kv_documents)
kv_test(prompts LIBS kv_documents)
kv_fuzz(jsonl LIBS kv_documents)
