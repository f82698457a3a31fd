// Dates and types are shown as soon as they are chosen; addresses stay short.
const filters = document.getElementById("filters");

filters.addEventListener("formdata", ({ formData }) => {
  for (const [name, value] of [...formData]) if (!value) formData.delete(name);
});
filters.querySelector("select").addEventListener("change", () => filters.requestSubmit());
