kv_test(int8_dot LIBS kv_kernels)
