kv_test(codec LIBS kv_codec)
kv_test(baseline LIBS kv_codec)
kv_test(cachegen LIBS kv_codec)
kv_test(transcode LIBS kv_codec)
kv_test(rate_control LIBS kv_codec)
kv_test(ecsq LIBS kv_codec)
kv_test(thirds LIBS kv_codec)
kv_test(clp LIBS kv_codec kv_kernels)
kv_test(clp_damage LIBS kv_codec kv_kernels)
kv_test(profiles LIBS kv_codec)
target_compile_definitions(transcode_test PRIVATE KV_TESTS="${CMAKE_CURRENT_SOURCE_DIR}")
kv_fuzz(planes LIBS kv_codec)
kv_fuzz(ecsq LIBS kv_codec)
kv_fuzz(clp LIBS kv_codec kv_kernels)
kv_fuzz(baseline LIBS kv_codec)
add_test(NAME cli.kvencode
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/cli/kvencode.sh $<TARGET_FILE_DIR:kvencode>
                 $<TARGET_FILE:synthetic_kv>)

kv_bench(codec LIBS kv_codec PkgConfig::zstd)
kv_bench(clp LIBS kv_codec kv_kernels PkgConfig::zstd)

# The decoder for GPUs, and the encoder's arithmetic.
kv_cuda_test(clp KERNELS rans_cuda int8_dot_cuda epilogue_cuda clp_decode_cuda LIBS kv_codec)
kv_cuda_test(clp_encode KERNELS rans_cuda int8_dot_cuda clp_encode_cuda LIBS kv_codec)
