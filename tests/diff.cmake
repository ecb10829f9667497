kv_test(diff LIBS kv_diff)
