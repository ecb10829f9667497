kv_test(tokenizer LIBS kv_tokenizer kv_checkpoint)
target_compile_definitions(tokenizer_test PRIVATE KV_TEST_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}")
kv_fuzz(tokenizer_json LIBS kv_tokenizer)
