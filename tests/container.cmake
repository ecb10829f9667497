kv_test(container LIBS kv_container)
