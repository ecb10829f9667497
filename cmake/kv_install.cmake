# cmake --install: tools, man pages, completions, the library as the CMake package kvtools; and,
# because it is the same question, where the programs find LibTorch.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# kv_uses_torch(target result): does it link LibTorch, itself or through others?
function(kv_uses_torch target result)
  set(${result} FALSE PARENT_SCOPE)
  get_target_property(libraries ${target} LINK_LIBRARIES)
  foreach(library IN LISTS libraries)
    set(uses FALSE)
    if(library STREQUAL kv_torch)
      set(uses TRUE)
    elseif(library MATCHES "^kv_" AND TARGET ${library})
      kv_uses_torch(${library} uses)
    endif()
    if(uses)
      set(${result} TRUE PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# In the build tree by a path from the program to TORCH_DIR, if that lies in the source tree, so
# that equal sources give equal programs; installed, by a link beside the library.
set(kv_torch_link ${CMAKE_INSTALL_LIBDIR}/kvtools/torch)
function(kv_set_rpath folder)
  get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL EXECUTABLE)
      kv_uses_torch(${target} uses)
      if(uses)
        get_target_property(output ${target} BINARY_DIR)
        set(rpath ${TORCH_DIR}/lib)
        cmake_path(IS_PREFIX PROJECT_SOURCE_DIR ${rpath} NORMALIZE torch_inside)
        cmake_path(IS_PREFIX PROJECT_SOURCE_DIR ${output} NORMALIZE build_inside)
        if(torch_inside AND build_inside)
          file(RELATIVE_PATH rpath ${output} ${rpath})
          set(rpath $ORIGIN/${rpath})
        endif()
        set_target_properties(${target} PROPERTIES BUILD_RPATH ${rpath}
          INSTALL_RPATH $ORIGIN/../${kv_torch_link}/lib)
      endif()
    endif()
  endforeach()
  get_property(subfolders DIRECTORY ${folder} PROPERTY SUBDIRECTORIES)
  foreach(subfolder IN LISTS subfolders)
    kv_set_rpath(${subfolder})
  endforeach()
endfunction()
if(KVTOOLS_TORCH)
  kv_set_rpath(${PROJECT_SOURCE_DIR})
endif()

get_property(kv_tools GLOBAL PROPERTY KV_TOOLS)
install(TARGETS ${kv_tools} RUNTIME)
if(TARGET kvdiff-profile)
  set_target_properties(kvdiff-profile PROPERTIES
    INSTALL_RPATH $ORIGIN/../../${kv_torch_link}/lib)
  install(TARGETS kvdiff-profile RUNTIME DESTINATION libexec/kvtools)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples/adapters/short
        ${PROJECT_SOURCE_DIR}/examples/adapters/record
        OPTIONAL DESTINATION ${CMAKE_INSTALL_DATADIR}/kvtools/models)

file(GLOB kv_pages RELATIVE ${PROJECT_SOURCE_DIR} man/*.[157])
foreach(page IN LISTS kv_pages)
  cmake_path(GET page EXTENSION LAST_ONLY section)
  string(SUBSTRING ${section} 1 1 section)
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(DIRECTORY ${PROJECT_BINARY_DIR}/completions/bash/ OPTIONAL
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(DIRECTORY ${PROJECT_BINARY_DIR}/completions/zsh/ OPTIONAL
  DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES examples/kvcache.magic DESTINATION ${CMAKE_INSTALL_DATADIR}/kvtools)
install(FILES .deps/models/smollm2.gguf .deps/models/smollm2.LICENSE OPTIONAL
  DESTINATION ${CMAKE_INSTALL_DATADIR}/kvtools/models)
install(DIRECTORY .deps/profiles/ OPTIONAL DESTINATION ${CMAKE_INSTALL_DATADIR}/kvtools/profiles
  FILES_MATCHING PATTERN "*.kvp" PATTERN "samples" EXCLUDE)
install(FILES .deps/texts/mixed.jsonl OPTIONAL DESTINATION ${CMAKE_INSTALL_DATADIR}/kvtools/texts)

# The library. Whoever wants only the container needs no LibTorch: two sets of targets.
set(kv_package ${CMAKE_INSTALL_LIBDIR}/cmake/kvtools)
get_property(kv_libraries GLOBAL PROPERTY KV_LIBRARIES)
foreach(library IN LISTS kv_libraries)
  kv_uses_torch(${library} uses)
  if(uses)
    install(TARGETS ${library} EXPORT kvtoolsModelTargets ARCHIVE)
  else()
    install(TARGETS ${library} EXPORT kvtoolsTargets ARCHIVE)
  endif()
  get_target_property(folder ${library} SOURCE_DIR)
  get_target_property(name ${library} EXPORT_NAME)
  install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kv/${name}
    FILES_MATCHING PATTERN *.hh)
endforeach()
install(EXPORT kvtoolsTargets NAMESPACE kvtools:: DESTINATION ${kv_package})
if(KVTOOLS_TORCH)
  install(EXPORT kvtoolsModelTargets NAMESPACE kvtools:: DESTINATION ${kv_package})
  install(CODE "
    set(link \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${kv_torch_link}\")
    get_filename_component(folder \"\${link}\" DIRECTORY)
    file(MAKE_DIRECTORY \"\${folder}\")
    file(REAL_PATH \"${TORCH_DIR}\" torch)
    message(STATUS \"Linking: \${link} -> \${torch}\")
    file(CREATE_LINK \"\${torch}\" \"\${link}\" SYMBOLIC)")
endif()
get_property(kv_cuda_kernels GLOBAL PROPERTY KV_CUDA_KERNELS)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/kvtoolsConfig.cmake.in
  ${PROJECT_BINARY_DIR}/kvtoolsConfig.cmake INSTALL_DESTINATION ${kv_package}
  PATH_VARS kv_torch_link)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kvtoolsConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kvtoolsConfig.cmake ${PROJECT_BINARY_DIR}/kvtoolsConfigVersion.cmake
              cmake/kv_packages.cmake
  DESTINATION ${kv_package})
