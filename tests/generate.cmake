if(KVTOOLS_TORCH)
  kv_test(sampler LIBS kv_generate)
endif()
