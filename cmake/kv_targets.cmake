# One target a folder, each with an include root of its own: a header is seen only by targets that
# link its folder, so a wrong include does not compile.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
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
  add_compile_options(-Wno-restrict)  # GCC bug 105329: false alarms on std::string assignment
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
  set_target_properties(kv_${name} PROPERTIES EXPORT_NAME ${name})
  set_property(GLOBAL APPEND PROPERTY KV_LIBRARIES kv_${name})
  set_property(GLOBAL APPEND PROPERTY KV_HEADER_FOLDERS ${name})
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
  set_property(GLOBAL APPEND PROPERTY KV_TOOLS ${name})
endfunction()
