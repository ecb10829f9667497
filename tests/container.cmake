kv_test(container LIBS kv_container Threads::Threads)
kv_test(container_damage LIBS kv_container)
kv_test(container_tensor LIBS kv_container)
kv_test(container_importance LIBS kv_container)
kv_test(rope LIBS kv_container)
foreach(name container container_damage container_importance)
  target_compile_definitions(${name}_test PRIVATE KV_TESTS="${CMAKE_CURRENT_SOURCE_DIR}")
endforeach()
kv_fuzz(reader LIBS kv_container)

# Golden files: made anew and compared, read and refused, and read by the second decoder.
add_library(golden_files STATIC golden_good.cc golden_bad.cc golden_lossy.cc golden_clp.cc)
target_link_libraries(golden_files PUBLIC kv_container PRIVATE kv_codec kv_kernels)
target_include_directories(golden_files PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
add_executable(make_golden make_golden.cc)
target_link_libraries(make_golden PRIVATE golden_files)
add_test(NAME golden.same COMMAND make_golden --compare ${CMAKE_CURRENT_SOURCE_DIR})

# Frozen output of the encoder, whose zstd may say the same otherwise in another version.
if(TARGET kvdecode)
  foreach(dtype f32 f16 bf16 fp8_e4m3 fp8_e5m2 int8)
    add_test(NAME golden.planes.${dtype}
             COMMAND sh -c "'$<TARGET_FILE:kvdecode>' --no-history planes_${dtype}.kv | cmp - channels_${dtype}.kv"
             WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/golden/v1)
  endforeach()
endif()

# And the decoders of the lossy codecs, through the tool.
if(TARGET kvdecode)
  foreach(codec q8_0 q4_0 kivi cachegen cachegen-code cachegen-code-compact ecsq
          ecsq-progressive clp clp-steps clp-fine clp-coarse clp-one clp-fp8)
    add_test(NAME golden.lossy.${codec}
             COMMAND sh -c "'$<TARGET_FILE:kvdecode>' --no-history lossy_${codec}.kv | cmp - lossy_${codec}_values.kv"
             WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/golden/v1)
    set_tests_properties(golden.lossy.${codec} PROPERTIES
                         ENVIRONMENT KVTOOLS_PROFILES=..)
  endforeach()
endif()

find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
  add_executable(kv_dump kv_dump.cc)
  target_link_libraries(kv_dump PRIVATE kv_container nlohmann_json::nlohmann_json)
  add_test(NAME golden.refdecode
           COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/check_refdecode.py
                   $<TARGET_FILE:kv_dump> ${PROJECT_SOURCE_DIR})
endif()

# What bench/container.sh reads.
add_executable(synthetic_kv ${PROJECT_SOURCE_DIR}/bench/synthetic_kv.cc)
target_link_libraries(synthetic_kv PRIVATE kv_container)
