kv_test(container LIBS kv_container)

add_library(golden_files STATIC golden_good.cc golden_bad.cc)
target_link_libraries(golden_files PUBLIC kv_container)
target_include_directories(golden_files PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
add_executable(make_golden make_golden.cc)
target_link_libraries(make_golden PRIVATE golden_files)
