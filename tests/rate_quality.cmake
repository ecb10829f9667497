# What bench/rate_quality.sh runs. Metrics, tables and plot need no model.
set(bench ${PROJECT_SOURCE_DIR}/bench)
add_library(rate_quality_report STATIC ${bench}/rq_curve.cc ${bench}/rq_results.cc
  ${bench}/rq_report.cc ${bench}/rq_tables.cc ${bench}/rq_plot.cc ${bench}/rq_windows.cc)
target_include_directories(rate_quality_report PUBLIC ${bench})
target_link_libraries(rate_quality_report PUBLIC kv_base kv_tokenizer kv_documents kv_eval
                                          PRIVATE nlohmann_json::nlohmann_json)
kv_test(rate_quality LIBS rate_quality_report)
kv_test(rate_quality_windows LIBS rate_quality_report)
target_compile_definitions(rate_quality_windows_test PRIVATE KV_SHARED="../shared")
set_tests_properties(unit.rate_quality_windows PROPERTIES
                     WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})

if(KVTOOLS_TORCH)
  add_executable(rate_quality ${bench}/rate_quality.cc ${bench}/rq_run.cc ${bench}/rq_shell.cc)
  target_link_libraries(rate_quality PRIVATE rate_quality_report kv_session kv_tool_frame)
  add_test(NAME cli.rate_quality COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/cli/rate_quality.sh
           ${PROJECT_BINARY_DIR}/tools ${PROJECT_BINARY_DIR}/tests/cli $<TARGET_FILE:rate_quality>)
  set_tests_properties(cli.rate_quality PROPERTIES SKIP_RETURN_CODE 125 TIMEOUT 600)
endif()
