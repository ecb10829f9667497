if(KVTOOLS_TORCH)
  kv_test(share LIBS kv_share kv_torch)
endif()
kv_fuzz(share_plan LIBS kv_share)
