kv_test(rans LIBS kv_kernels)
kv_fuzz(rans LIBS kv_kernels)

# What bench/rans.sh runs.
