// Shows openapi.json. The page sends no request to another host (validatorUrl), and stores no token
// (persistAuthorization).
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: false,
  presets: [SwaggerUIBundle.presets.apis],
  queryConfigEnabled: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
