if(KVTOOLS_TORCH)
  kv_test(blend LIBS kv_blend kv_torch)
endif()
