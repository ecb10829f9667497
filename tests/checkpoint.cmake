kv_test(checkpoint LIBS kv_checkpoint)
target_compile_definitions(checkpoint_test PRIVATE KV_TEST_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}")
kv_fuzz(gguf LIBS kv_gguf)
kv_fuzz(safetensors LIBS kv_checkpoint)
