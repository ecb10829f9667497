kv_test(rans LIBS kv_kernels)
kv_fuzz(rans LIBS kv_kernels)
kv_test(bf16_attention LIBS kv_kernels)
kv_test(bf16_product LIBS kv_kernels)
kv_test(epilogue LIBS kv_kernels)
kv_test(int8_dot LIBS kv_kernels)

# What bench/int8_dot.sh runs.
add_executable(int8_dot_bench ${PROJECT_SOURCE_DIR}/bench/int8_dot.cc)
target_link_libraries(int8_dot_bench PRIVATE kv_kernels)
# The CUDA sources as C++ on fibers (tests/cuda_shim), which needs no GPU, and the same test on a GPU.
find_library(BOOST_CONTEXT_LIBRARY boost_context REQUIRED)
mark_as_advanced(BOOST_CONTEXT_LIBRARY)
add_library(cuda_shim STATIC cuda_shim/cuda_shim.cc)
target_include_directories(cuda_shim PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/cuda_shim)
target_compile_definitions(cuda_shim PUBLIC KV_CUDA_SHIM)
target_link_libraries(cuda_shim PUBLIC ${BOOST_CONTEXT_LIBRARY})
kv_test(cuda_shim LIBS kv_kernels cuda_shim)

# kv_cuda_test(name KERNELS kernels/<kernel>.cu... LIBS ...): unit/<name>_cuda_test.cc with these on
# fibers, and as gpu.<name> with those of kv_kernels.
function(kv_cuda_test name)
  cmake_parse_arguments(arg "" "" "KERNELS;LIBS" ${ARGN})
  kv_test(${name}_cuda LIBS kv_kernels cuda_shim ${arg_LIBS})
  foreach(kernel ${arg_KERNELS})
    set(source ${PROJECT_SOURCE_DIR}/kernels/${kernel}.cu)
    set_source_files_properties(${source} PROPERTIES LANGUAGE CXX
      COMPILE_OPTIONS "-x;c++;-ffp-contract=off")
    target_sources(${name}_cuda_test PRIVATE ${source})
  endforeach()
  add_executable(${name}_gpu_test unit/${name}_cuda_test.cc)
  target_link_libraries(${name}_gpu_test PRIVATE kv_kernels ${arg_LIBS} doctest::doctest)
  add_test(NAME gpu.${name} COMMAND ${name}_gpu_test)
  set_tests_properties(gpu.${name} PROPERTIES SKIP_RETURN_CODE 125)
endfunction()
kv_cuda_test(rans KERNELS rans_cuda)
kv_cuda_test(int8_dot KERNELS int8_dot_cuda epilogue_cuda)

# What bench/rans.sh runs.
add_executable(rans_bench ${PROJECT_SOURCE_DIR}/bench/rans.cc)
target_link_libraries(rans_bench PRIVATE kv_kernels PkgConfig::zstd)
find_path(HTSCODECS_INCLUDE htscodecs/rANS_static4x16.h)
find_library(HTSCODECS_LIBRARY htscodecs)
mark_as_advanced(HTSCODECS_INCLUDE HTSCODECS_LIBRARY)
if(HTSCODECS_INCLUDE AND HTSCODECS_LIBRARY)
  target_include_directories(rans_bench SYSTEM PRIVATE ${HTSCODECS_INCLUDE})
  target_link_libraries(rans_bench PRIVATE ${HTSCODECS_LIBRARY})
  target_compile_definitions(rans_bench PRIVATE KV_HTSCODECS)
endif()
