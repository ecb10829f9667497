kv_test(checkpoint LIBS kv_checkpoint)
kv_test(adapter LIBS kv_checkpoint)
target_compile_definitions(checkpoint_test PRIVATE KV_TEST_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}")
kv_fuzz(gguf LIBS kv_gguf)
kv_fuzz(safetensors LIBS kv_checkpoint)
kv_fuzz(adapter LIBS kv_checkpoint)

add_executable(checkpoint_probe checkpoint_probe.cc)
target_link_libraries(checkpoint_probe PRIVATE kv_checkpoint)
add_test(NAME peers.dequantize
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/peers/dequantize.sh $<TARGET_FILE:checkpoint_probe>)
set_tests_properties(peers.dequantize PROPERTIES SKIP_RETURN_CODE 125)
