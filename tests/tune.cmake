if(KVTOOLS_TORCH)
  kv_test(tune LIBS kv_tune kv_torch)

  add_test(NAME peers.adapters
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/peers/adapters.sh $<TARGET_FILE:model_probe>
            $<TARGET_FILE:kvtune>)
  set_tests_properties(peers.adapters PROPERTIES SKIP_RETURN_CODE 125 TIMEOUT 1800)
endif()
