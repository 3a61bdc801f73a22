// Run once, by the image, in an empty database: the user that Rasa connects as.
db.getSiblingDB("rasa").runCommand({
  createUser: process.env.DB_USERNAME,
  pwd: process.env.DB_PASSWORD,
  roles: [{role: "readWrite", db: "rasa"}],
}).ok || quit(1);
