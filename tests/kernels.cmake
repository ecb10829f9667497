kv_test(rans LIBS kv_kernels)
kv_fuzz(rans LIBS kv_kernels)
kv_test(int8_dot LIBS kv_kernels)
