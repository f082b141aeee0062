//! `show`: one thing, whole.

use skytower_api_client::rest::Client;
use skytower_api_client::wire::Caller;

use super::args::{Output, Show};
use super::console::{Console, emit};
use super::{Failure, output, targets};

/// `skytower show TARGET`.
pub(super) async fn show(client: &Client, args: &Show, console: &Console) -> Result<u8, Failure> {
    let row = targets::resolve_one(client, &args.target).await?;
    if args.output == Output::Name {
        emit(&output::names(&[row], false))?;
        return Ok(0);
    }
    let detail = client.detail(row.kind(), row.key()).await?;
    let text = match args.output {
        Output::Json | Output::Yaml => {
            let mut value = serde_json::to_value(&detail).unwrap_or_default();
            output::readable_times(&mut value);
            if args.output == Output::Json {
                output::pretty(&value)
            } else {
                output::yaml(&value)?
            }
        }
        _ => {
            let context = console.context(Caller::default());
            let mut out = output::card(&row, console, &context);
            if let Some(entrypoint) = &detail.entrypoint {
                out.push_str(&format!(
                    "\n{}\n{entrypoint}\n",
                    console.style("1", "Made by")
                ));
            }
            if let Some(yaml) = &detail.yaml {
                let yaml = yaml.trim_end();
                out.push_str(&format!("\n{}\n{yaml}\n", console.style("1", "YAML")));
            }
            out
        }
    };
    emit(&text)?;
    Ok(0)
}
