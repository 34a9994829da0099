# The pages of `moe report` and `moe trace`. Chart.js draws the curves (Debian's libjs-chart.js). Without it the program says
# what is missing.
# moe_embed_chart(TARGET HEADER NAME): the text of chart.min.js as moe::NAME; empty where the package is missing.
function(moe_embed_chart target header name)
  find_file(MOE_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js DOC "chart.min.js of Chart.js 3" NO_CMAKE_FIND_ROOT_PATH)
  if(MOE_CHART_JS)
    message(STATUS "Chart.js: ${MOE_CHART_JS}")
    moe_embed(${target} ${MOE_CHART_JS} ${header} ${name})
  else()
    message(STATUS "Chart.js: not found, so `moe report` draws nothing; install libjs-chart.js and build again")
    file(WRITE ${CMAKE_BINARY_DIR}/no_chart.js "")
    moe_embed(${target} ${CMAKE_BINARY_DIR}/no_chart.js ${header} ${name})
  endif()
endfunction()

# moe_page_files(TARGET): the files of src/report/page/ as the strings of src/report/page_files.h.
function(moe_page_files target)
  set(header report/page_files.h)
  moe_embed(${target} src/report/page/frame.html ${header} kFrameHtml)
  moe_embed(${target} src/report/page/style.css ${header} kStyleSheet)
  moe_embed(${target} src/report/page/common.js ${header} kCommonScript)
  moe_embed(${target} src/report/page/heat.js ${header} kHeatScript)
  moe_embed(${target} src/report/page/curves.js ${header} kCurvesScript)
  moe_embed(${target} src/report/page/experts.js ${header} kExpertsScript)
  moe_embed(${target} src/report/page/causal.js ${header} kCausalScript)
  moe_embed(${target} src/report/page/report.js ${header} kReportScript)
  moe_embed(${target} src/report/page/trace.js ${header} kTraceScript)
  moe_embed_chart(${target} ${header} kChartScript)
endfunction()
