use crate::*;

fn answer(input: &[u8], appraise: bool, rules: Rules) -> String {
    let mut out = vec![0; 40 << 10];
    let b = evaluate(input, appraise, rules, &mut out);
    String::from_utf8_lossy(b).into_owned()
}
