"use strict";
// Only adds: a filter above the matrices. Without it every row is there.
document.querySelectorAll(".key").forEach(function (key) {
  var matrices = [];
  for (var next = key.nextElementSibling; next && next.matches(".matrix"); next = next.nextElementSibling) matrices.push(next);
  if (!matrices.length) return;
  var tools = document.createElement("div");
  tools.className = "tools";
  var search = document.createElement("input");
  search.type = "search";
  search.placeholder = "Find a cohort";
  search.setAttribute("aria-label", "Show only cohorts whose name contains");
  var label = document.createElement("label");
  var box = document.createElement("input");
  box.type = "checkbox";
  label.append(box, " only what does not pass");
  tools.append(search, label);
  key.after(tools);
  function show() {
    var wanted = search.value.trim().toLowerCase();
    matrices.forEach(function (matrix) {
      matrix.querySelectorAll("tr[data-state]").forEach(function (row) {
        var named = row.querySelector("th").textContent.toLowerCase().includes(wanted);
        var settled = row.dataset.state === "pass" || row.dataset.state === "none";
        row.hidden = !named || (box.checked && settled);
      });
    });
  }
  search.addEventListener("input", show);
  box.addEventListener("change", show);
});
