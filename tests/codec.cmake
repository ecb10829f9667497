kv_test(codec LIBS kv_codec)
kv_test(baseline LIBS kv_codec)
kv_test(cachegen LIBS kv_codec)
kv_test(transcode LIBS kv_codec)
kv_test(ecsq LIBS kv_codec)
kv_test(clp LIBS kv_codec kv_kernels PkgConfig::hwy)
target_compile_definitions(transcode_test PRIVATE KV_TESTS="${CMAKE_CURRENT_SOURCE_DIR}")
kv_fuzz(planes LIBS kv_codec)
kv_fuzz(ecsq LIBS kv_codec)
kv_fuzz(clp LIBS kv_codec kv_kernels)
kv_fuzz(baseline LIBS kv_codec)
add_test(NAME cli.kvencode
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/cli/kvencode.sh $<TARGET_FILE_DIR:kvencode>
                 $<TARGET_FILE:synthetic_kv>)

# What bench/codec.sh runs.
add_executable(codec_bench ${PROJECT_SOURCE_DIR}/bench/codec.cc)
target_link_libraries(codec_bench PRIVATE kv_codec PkgConfig::zstd)

# What bench/clp.sh runs.
add_executable(clp_bench ${PROJECT_SOURCE_DIR}/bench/clp.cc)
target_link_libraries(clp_bench PRIVATE kv_codec kv_kernels PkgConfig::hwy PkgConfig::zstd)

# The decoder for GPUs on fibers of the CPU, and the same test on a GPU.
kv_test(clp_cuda LIBS kv_codec kv_kernels cuda_shim)
foreach(name rans_cuda int8_dot_cuda epilogue_cuda clp_decode_cuda)
  set(source ${PROJECT_SOURCE_DIR}/kernels/${name}.cu)
  set_source_files_properties(${source} PROPERTIES LANGUAGE CXX
    COMPILE_OPTIONS "-x;c++;-ffp-contract=off")
  target_sources(clp_cuda_test PRIVATE ${source})
endforeach()
add_executable(clp_gpu_test unit/clp_cuda_test.cc)
target_link_libraries(clp_gpu_test PRIVATE kv_codec kv_kernels doctest::doctest)
add_test(NAME gpu.clp COMMAND clp_gpu_test)
set_tests_properties(gpu.clp PROPERTIES SKIP_RETURN_CODE 125)
