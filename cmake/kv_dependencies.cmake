# System packages; packages.txt lists where they come from.
include(kv_packages)
find_package(CLI11 REQUIRED)

# LibTorch without find_package(Torch): that one fails in CUDA detection with CMake 3.25 and links
# libtorch_cuda into everything. libtorch_cpu finds libcudart and libcupti by an rpath of its own,
# hence the permission to leave them unresolved.
#
# By -l and not as imported files: CMake would write the folder of such files into each program,
# and two builds of the same source in two places would differ. kv_install.cmake sets the rpath.
if(KVTOOLS_TORCH)
  if(NOT TORCH_DIR)
    set(TORCH_DIR ${PROJECT_SOURCE_DIR}/.deps/torch)
  endif()
  if(NOT EXISTS ${TORCH_DIR}/lib/libtorch_cpu.so)
    message(FATAL_ERROR "no LibTorch in '${TORCH_DIR}': run 'make -f Makefile.shortcuts setup', "
                        "or give -DTORCH_DIR= or -DKVTOOLS_TORCH=OFF")
  endif()
  add_library(kv_torch INTERFACE IMPORTED)
  target_include_directories(kv_torch SYSTEM INTERFACE
    ${TORCH_DIR}/include ${TORCH_DIR}/include/torch/csrc/api/include)
  target_link_directories(kv_torch INTERFACE ${TORCH_DIR}/lib)
  target_link_libraries(kv_torch INTERFACE -ltorch_cpu -lc10)
  target_link_options(kv_torch INTERFACE -Wl,--allow-shlib-undefined)
  add_compile_options(-ffile-prefix-map=${TORCH_DIR}=torch)
endif()
