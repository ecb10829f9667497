# One target a folder, each with an include root of its own: a header is seen only by targets that
# link its folder, so a wrong include does not compile.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
add_compile_options(-fPIC)  # programs too: they share precompiled headers with libraries
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# Reproducible: no path of this machine in the objects.
add_compile_options(-ffile-prefix-map=${PROJECT_SOURCE_DIR}=. -Wdate-time
                    -ffile-prefix-map=${PROJECT_BINARY_DIR}=build)
add_compile_options(-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor)
# Designated initialisers leave the other members at their defaults on purpose.
add_compile_options(-Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC bug 105329: false alarms on std::string assignment; more kinds of them where the standard
  # library is precompiled.
  add_compile_options(-Wno-restrict)
  if(KVTOOLS_PRECOMPILE)
    add_compile_options(-Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread)
  endif()
endif()
if(KVTOOLS_WERROR)
  add_compile_options(-Werror)
endif()
if(KVTOOLS_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
if(KVTOOLS_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# kv_precompiled(target KIND): the headers that make most of the work in files of a kind are parsed
# once for all of them: JSON and formatting (plain), with LibTorch's (model), CLI11 (tool), doctest
# (test). With KVTOOLS_PRECOMPILE only: the release preset goes without, and there a file that
# forgets an include does not compile.
set(kv_headers <algorithm> <array> <cmath> <cstdint> <filesystem> <functional> <map> <memory>
    <optional> <span> <string> <string_view> <vector>)
set(kv_headers_plain ${kv_headers} <fmt/format.h> <nlohmann/json.hpp>)
set(kv_headers_tool ${kv_headers} <CLI/CLI.hpp>)  # no fmt: LibTorch's differs
set(kv_headers_test ${kv_headers_plain} <doctest/doctest.h>)
set(kv_headers_model ${kv_headers_plain} <ATen/Parallel.h> <ATen/TensorOperators.h>
    <ATen/core/Tensor.h> <ATen/ops/empty.h> <ATen/ops/from_blob.h> <ATen/ops/matmul.h>)
function(kv_precompiled target kind)
  if(NOT KVTOOLS_PRECOMPILE)
    return()
  endif()
  if(NOT TARGET kv_headers_${kind})
    file(WRITE ${PROJECT_BINARY_DIR}/headers_${kind}.cc "")
    add_library(kv_headers_${kind} OBJECT ${PROJECT_BINARY_DIR}/headers_${kind}.cc)
    target_compile_features(kv_headers_${kind} PUBLIC cxx_std_20)
    target_link_libraries(kv_headers_${kind} PRIVATE
      fmt::fmt $<$<STREQUAL:${kind},model>:kv_torch> $<$<STREQUAL:${kind},test>:doctest::doctest>)
    target_precompile_headers(kv_headers_${kind} PRIVATE ${kv_headers_${kind}})
  endif()
  target_link_libraries(${target} PRIVATE fmt::fmt)  # its definitions must be those of the headers
  target_precompile_headers(${target} REUSE_FROM kv_headers_${kind})
endfunction()

# kv_library(base SOURCES ... LIBS ... PRIVATE_LIBS ...): target kv_base over lib/base, included
# as "kv/base/...".
function(kv_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS;PRIVATE_LIBS" ${ARGN})
  set(root ${PROJECT_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${root}/kv)
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/kv/${name} SYMBOLIC)
  add_library(kv_${name} STATIC ${arg_SOURCES})
  target_compile_features(kv_${name} PUBLIC cxx_std_20)
  add_library(kvtools::${name} ALIAS kv_${name})
  target_include_directories(kv_${name} PUBLIC $<BUILD_INTERFACE:${root}>
                                               $<INSTALL_INTERFACE:include>)
  target_link_libraries(kv_${name} PUBLIC ${arg_LIBS} PRIVATE ${arg_PRIVATE_LIBS})
  if(kv_torch IN_LIST arg_LIBS OR kv_torch IN_LIST arg_PRIVATE_LIBS)
    kv_precompiled(kv_${name} model)
  elseif(NOT name STREQUAL kernels)  # they include neither
    kv_precompiled(kv_${name} plain)
  endif()
  set_target_properties(kv_${name} PROPERTIES EXPORT_NAME ${name})
  set_property(GLOBAL APPEND PROPERTY KV_LIBRARIES kv_${name})
  set_property(GLOBAL APPEND PROPERTY KV_HEADER_FOLDERS ${name})
endfunction()

# kv_highway_sources(SOURCES ...): files that Highway compiles for several processors. Not with precompiled
# headers: GCC 12 then compiles them without -ffp-contract=off, and the processors differ in the last bit.
function(kv_highway_sources)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
endfunction()

# Highway without its library: its headers, whose checks of debug builds would call it.
function(kv_highway_headers target)
  target_include_directories(${target} SYSTEM PRIVATE ${hwy_INCLUDE_DIRS})
  target_compile_definitions(${target} PRIVATE HWY_IS_DEBUG_BUILD=0)
endfunction()

# kv_tool(kvinfo LIBS ...): tools/kvinfo.cc and the shared tool frame.
function(kv_tool name)
  cmake_parse_arguments(arg "" "" "LIBS" ${ARGN})
  add_executable(${name} ${CMAKE_CURRENT_SOURCE_DIR}/${name}.cc)
  target_link_libraries(${name} PRIVATE kv_tool_frame ${arg_LIBS})
  kv_precompiled(${name} tool)
  set_property(GLOBAL APPEND PROPERTY KV_TOOLS ${name})
endfunction()
