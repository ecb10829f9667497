kv_test(rans LIBS kv_kernels)
kv_fuzz(rans LIBS kv_kernels)

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
