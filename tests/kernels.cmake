kv_test(rans LIBS kv_kernels)
kv_fuzz(rans LIBS kv_kernels)
kv_test(epilogue LIBS kv_kernels)
kv_test(int8_dot LIBS kv_kernels)

# What bench/int8_dot.sh runs.
add_executable(int8_dot_bench ${PROJECT_SOURCE_DIR}/bench/int8_dot.cc)
target_link_libraries(int8_dot_bench PRIVATE kv_kernels)
