# System packages; packages.txt lists where they come from.
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)
find_package(CLI11 REQUIRED)
find_package(Threads REQUIRED)

# LibTorch without find_package(Torch): that one fails in CUDA detection with CMake 3.25 and links
# libtorch_cuda into everything. libtorch_cpu needs libcudart and libcupti at run time, from a CUDA
# 13 toolkit or the wheels beside it, hence the rpath and the permission to leave them unresolved.
if(KVTOOLS_TORCH)
  if(NOT TORCH_DIR)
    set(TORCH_DIR ${PROJECT_SOURCE_DIR}/.deps/torch)
  endif()
  if(NOT EXISTS ${TORCH_DIR}/lib/libtorch_cpu.so)
    message(FATAL_ERROR "no LibTorch in '${TORCH_DIR}': run 'make -f Makefile.shortcuts setup', "
                        "or give -DTORCH_DIR= or -DKVTOOLS_TORCH=OFF")
  endif()
  add_library(kv_c10 SHARED IMPORTED)
  set_target_properties(kv_c10 PROPERTIES IMPORTED_LOCATION ${TORCH_DIR}/lib/libc10.so)
  add_library(kv_torch SHARED IMPORTED)
  set_target_properties(kv_torch PROPERTIES IMPORTED_LOCATION ${TORCH_DIR}/lib/libtorch_cpu.so)
  target_include_directories(kv_torch SYSTEM INTERFACE
    ${TORCH_DIR}/include ${TORCH_DIR}/include/torch/csrc/api/include)
  file(GLOB kv_cuda_wheels ${TORCH_DIR}/../nvidia/*/lib)
  set(KV_TORCH_RPATH ${TORCH_DIR}/lib ${kv_cuda_wheels})
  find_path(KV_CUDART_FOLDER libcudart.so.13
    PATHS /usr/local/cuda/lib64 /usr/local/cuda-13/lib64 /usr/lib/x86_64-linux-gnu NO_DEFAULT_PATH)
  find_path(KV_CUPTI_FOLDER libcupti.so.13
    PATHS /usr/local/cuda/lib64 /usr/local/cuda/extras/CUPTI/lib64 NO_DEFAULT_PATH)
  foreach(folder KV_CUDART_FOLDER KV_CUPTI_FOLDER)
    if(${folder})
      list(APPEND KV_TORCH_RPATH ${${folder}})
    endif()
  endforeach()
  target_link_libraries(kv_torch INTERFACE kv_c10)
  target_link_options(kv_torch INTERFACE -Wl,--allow-shlib-undefined)
endif()
