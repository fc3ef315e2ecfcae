// @ts-check
// Before the style sheet, so that nothing is painted in the wrong theme.
try {
	const theme = localStorage.getItem("cproxy.theme");
	if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage may be forbidden */ }
