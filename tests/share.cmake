if(KVTOOLS_TORCH)
  kv_test(share LIBS kv_share kv_torch)
endif()
