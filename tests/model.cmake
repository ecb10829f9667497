if(KVTOOLS_TORCH)
  kv_test(model LIBS kv_model kv_torch)
  kv_test(importance LIBS kv_model kv_torch)

  add_executable(model_probe model_probe.cc)
  target_link_libraries(model_probe PRIVATE kv_model)
  add_test(NAME peers.model
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/peers/model_reference.sh $<TARGET_FILE:model_probe>)
  set_tests_properties(peers.model PROPERTIES SKIP_RETURN_CODE 125 TIMEOUT 1800)

  add_test(NAME peers.second_model
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/peers/gemma3.sh $<TARGET_FILE:model_probe>
            $<TARGET_FILE:tokenize>)
  set_tests_properties(peers.second_model PROPERTIES SKIP_RETURN_CODE 125 TIMEOUT 1800)

  kv_bench(prefill LIBS kv_model kv_torch)

  kv_bench(ttft LIBS kv_generate)

  add_executable(torch_start ${PROJECT_SOURCE_DIR}/bench/torch_start.cc)
  target_link_libraries(torch_start PRIVATE kv_torch)
endif()
