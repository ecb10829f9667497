if(KVTOOLS_TORCH)
  add_executable(model_probe model_probe.cc)
  target_link_libraries(model_probe PRIVATE kv_model)
endif()
