if(KVTOOLS_TORCH)
  kv_test(blend LIBS kv_blend kv_torch)

  add_executable(blend_bench ${PROJECT_SOURCE_DIR}/bench/blend.cc)
  target_link_libraries(blend_bench PRIVATE kv_blend)
endif()
