//! The command line: what can be asked, which settings each command needs, and exit statuses: 0
//! done, 1 failed, 2 asked wrongly (usage or settings). Standard output carries only what was asked
//! for.

mod import;
mod token;
mod users;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::import::{ImportArgs, Outcome};
use self::token::TokenArgs;
use self::users::{KeyArgs, UserArgs};
use crate::api::route_filter::names_a_route;
use crate::config::{self, ConfigError, Inputs, Loaded, Reading};
use crate::{auth, healthcheck, kafka, observe, schema, server};

/// Exit status for wrong usage and wrong settings.
const ASKED_WRONGLY: u8 = 2;

/// Apache Kafka for everything that speaks HTTP.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(ServeArgs),
    /// Show, check, sample or import the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the AsyncAPI document of the WebSocket door.
    Asyncapi,
    /// Print a token for development, signed with a shared secret.
    Token(TokenArgs),
    /// Print a line for auth.users_file: a user, whose password is read from standard input.
    User(UserArgs),
    /// Make an API key: a line for auth.users_file on standard output, the key on standard error.
    Key(KeyArgs),
    /// Ask a running gateway whether it is ready: exit status 0 if so, else 1.
    Healthcheck(HealthcheckArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    common: SettingArgs,
    /// Public listener; repeat it for several [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Listener for health and metrics, or "off" [default: 127.0.0.1:9082]
    #[arg(long, value_name = "ADDR|off")]
    management_listen: Option<String>,
    /// The cluster's first addresses: host:port,host:port
    #[arg(long, value_name = "LIST", conflicts_with = "embedded")]
    bootstrap_servers: Option<String>,
    /// Run on a broker in this process's memory: a trial, gone at exit
    #[arg(long)]
    embedded: bool,
}

#[derive(Debug, Args)]
struct SettingArgs {
    /// Settings file [default: $TIDEGATE_CONFIG, else ./tidegate.toml if present]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key, as in http.max_body_bytes="1 MiB"; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting, its value and what set it; secrets are masked.
    Show(SettingArgs),
    /// Print "ok", or everything that is wrong.
    Check(SettingArgs),
    /// Print the commented sample file, every setting with its default.
    Sample,
    /// Carry over the settings of Confluent REST Proxy, Strimzi's bridge or Karapace. Prints a settings
    /// file that loads, with a comment for each line that has no counterpart.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct HealthcheckArgs {
    /// What to ask [default: /readyz of management.listen]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    common: SettingArgs,
}

impl SettingArgs {
    fn into_inputs(self) -> Inputs {
        Inputs {
            env: std::env::vars_os().collect(),
            config_file: self.config,
            set: self.set,
            ..Inputs::default()
        }
    }
}

impl ServeArgs {
    fn into_inputs(self) -> Inputs {
        Inputs {
            listen: self.listen,
            management_listen: self.management_listen,
            bootstrap_servers: self.bootstrap_servers,
            embedded: self.embedded,
            ..self.common.into_inputs()
        }
    }
}

/// Runs the command that the arguments (the program's name first) ask for, to its end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command,
        // Help and the version arrive here too, and go to standard output with status 0.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { ASKED_WRONGLY } else { 0 });
        }
    };
    match command {
        Command::Serve(args) => {
            let inputs = Arc::new(args.into_inputs());
            let file = config::settings_file(&inputs);
            let again = Arc::clone(&inputs);
            // A schema that has become invalid is no reason to leave all settings as they were.
            let read = Box::new(move || checked_but_schemas(&again));
            let sources = server::Sources::new(file, read, warnings);
            match checked(&inputs) {
                Ok(loaded) => serve(loaded, sources),
                Err(errors) => refuse(&errors),
            }
        }
        Command::Config(ConfigCommand::Show(args)) => show(&args.into_inputs()),
        Command::Config(ConfigCommand::Check(args)) => match checked(&args.into_inputs()) {
            Ok(loaded) => {
                for warning in warnings(&loaded) {
                    say(&format!("warning: {warning}"));
                }
                print("ok\n")
            }
            Err(errors) => refuse(&errors),
        },
        Command::Config(ConfigCommand::Sample) => print(&config::sample()),
        Command::Config(ConfigCommand::Import(args)) => import(&args),
        Command::Openapi => print(&crate::api::openapi::document_json()),
        Command::Asyncapi => print(&crate::session::protocol::asyncapi::document_json()),
        Command::Token(args) => token(&args),
        Command::User(args) => made(args.line(io::stdin().lock())),
        Command::Key(args) => match args.make() {
            Ok(made) => {
                say(&format!("key: {}", made.key));
                print(&format!("{}\n", made.line))
            }
            Err(problem) => made(Err(problem)),
        },
        Command::Healthcheck(args) => healthcheck(args),
    }
}

/// Starts the gateway and returns when it has stopped.
fn serve(loaded: Loaded, sources: server::Sources) -> ExitCode {
    let warnings = warnings(&loaded);
    let settings = loaded.settings;
    if let Err(problem) = observe::logging::install(&settings.telemetry) {
        return fail(&problem);
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(server::serve(settings, sources, warnings));
            // What hangs after the grace period (a blocking client call) does not hold up the end.
            runtime.shutdown_timeout(Duration::from_secs(1));
            served.map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("the runtime: {error}")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn import(args: &ImportArgs) -> ExitCode {
    match import::import(args) {
        Outcome::Text(text, report) => {
            say(&report);
            print(&text)
        }
        Outcome::Written(report) => {
            say(&report);
            ExitCode::SUCCESS
        }
        Outcome::Refused(problem) => {
            complain(&problem);
            ExitCode::from(ASKED_WRONGLY)
        }
        Outcome::Failed(problem) => fail(&problem),
    }
}

fn token(args: &TokenArgs) -> ExitCode {
    match args.mint() {
        Ok(token) => {
            for warning in args.warnings() {
                say(&format!("warning: {warning}"));
            }
            print(&format!("{token}\n"))
        }
        Err(problem) => {
            complain(&problem);
            ExitCode::from(ASKED_WRONGLY)
        }
    }
}

/// Prints a line that was asked for.
fn made(line: Result<String, String>) -> ExitCode {
    match line {
        Ok(line) => print(&format!("{line}\n")),
        Err(problem) => {
            complain(&problem);
            ExitCode::from(ASKED_WRONGLY)
        }
    }
}

/// What is allowed in the settings, and in files that they name, and seldom meant.
fn warnings(loaded: &Loaded) -> Vec<String> {
    let mut warnings = loaded.warnings();
    warnings.extend(auth::users::warnings(&loaded.settings.auth));
    warnings
}

/// The settings with every rule applied.
fn checked(inputs: &Inputs) -> Result<Loaded, Vec<ConfigError>> {
    let mut reading = config::read(inputs);
    apply_rules(&mut reading);
    check_schemas(&mut reading);
    reading.finish()
}

/// The same, whatever is in the folder of schemas.
fn checked_but_schemas(inputs: &Inputs) -> Result<Loaded, Vec<ConfigError>> {
    let mut reading = config::read(inputs);
    apply_rules(&mut reading);
    reading.finish()
}

/// Objects to the files of schemas that are none.
fn check_schemas(reading: &mut Reading) {
    let loaded = &reading.loaded;
    let problems = schema::problems(&loaded.settings.schema).into_iter();
    let errors: Vec<ConfigError> = problems
        .map(|problem| loaded.error("schema.folder", problem))
        .collect();
    reading.errors.extend(errors);
}

/// The one list of what start-up objects to: the settings' own rules, then those of parts that
/// `config` does not know: what the Kafka clients think of their properties, the routes, the
/// certificates, the filters of topics, and the users.
fn apply_rules(reading: &mut Reading) {
    reading.apply_rules();
    let loaded = &reading.loaded;
    let settings = &loaded.settings;
    let kafka = kafka::client::validate(&settings.kafka, &settings.limits)
        .into_iter()
        .map(|error| {
            let path = match error.property.as_str() {
                "" => error.table.to_owned(),
                property => format!("{}.{property}", error.table),
            };
            loaded.error(&path, error.message)
        });
    let http = &settings.http;
    let lists = [("http.allow", &http.allow), ("http.block", &http.block)];
    let routes = lists.into_iter().flat_map(|(path, patterns)| {
        let unknown = patterns.iter().filter(|pattern| !names_a_route(pattern));
        unknown.map(move |pattern| {
            let problem =
                format!("{pattern:?} is none of the routes that `tidegate openapi` prints");
            loaded.error(path, problem)
        })
    });
    // What the settings' own rules have objected to is not said twice.
    let said = |error: &ConfigError| error.to_string().starts_with("tls.");
    let tls = match reading.errors.iter().any(said) {
        true => None,
        false => server::check_tls(&settings.tls).err(),
    }
    .map(|error| loaded.error(error.setting, error.problem));
    let policies = auth::policy::problems(&settings.auth)
        .into_iter()
        .map(|(path, problem)| loaded.error(&path, problem));
    let users = auth::users::problems(&settings.auth)
        .into_iter()
        .map(|problem| loaded.error("auth.users_file", problem));
    let errors: Vec<ConfigError> = kafka
        .chain(routes)
        .chain(tls)
        .chain(policies)
        .chain(users)
        .collect();
    reading.errors.extend(errors);
}

/// Values that break a rule are shown nevertheless, so that one can see where they came from; those
/// that could not be read are not, as what would be shown is not what was meant.
fn show(inputs: &Inputs) -> ExitCode {
    let mut reading = config::read(inputs);
    let shown = match reading.errors.is_empty() {
        true => print(&config::show(&reading.loaded)),
        false => ExitCode::SUCCESS,
    };
    apply_rules(&mut reading);
    check_schemas(&mut reading);
    match reading.finish() {
        Ok(_) => shown,
        Err(errors) => refuse(&errors),
    }
}

fn healthcheck(args: HealthcheckArgs) -> ExitCode {
    // Rules between settings are the gateway's business: its flags, which could satisfy them, are
    // not known here.
    let reading = config::read(&args.common.into_inputs());
    let settings = &reading.loaded.settings;
    let trust = healthcheck::Trust {
        cert: settings.tls.cert.clone(),
        own: args.url.is_none(),
    };
    let url = match (args.url, reading.errors.first()) {
        // Of the settings only the certificate matters then; without it there are the system's.
        (Some(url), _) => Ok(url),
        (None, Some(error)) => Err(error.to_string()),
        (None, None) => healthcheck::readiness_url(
            settings.server.management_listen.as_deref(),
            settings.tls.cert.is_some(),
        ),
    };
    match url.and_then(|url| healthcheck::check(&url, trust)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&problem),
    }
}

fn refuse(errors: &[ConfigError]) -> ExitCode {
    for error in errors {
        complain(&error.to_string());
    }
    ExitCode::from(ASKED_WRONGLY)
}

fn fail(problem: &str) -> ExitCode {
    complain(problem);
    ExitCode::FAILURE
}

fn complain(problem: &str) {
    say(&format!("error: {problem}"));
}

fn say(line: &str) {
    // With standard error closed there is nobody left to tell; the exit status still tells.
    let _ = writeln!(io::stderr(), "{line}");
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // `tidegate config show | head` is not a failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write to standard output: {error}")),
    }
}
