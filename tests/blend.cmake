if(KVTOOLS_TORCH)
  kv_test(blend LIBS kv_blend kv_torch)

  kv_bench(blend LIBS kv_blend)
endif()
